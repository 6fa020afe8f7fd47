"""Do samples look like real digits, and do they show more than copies of the training images?

A good log p(x) does not say so: it is taken at real images, and samples come from the prior. So a
classifier that knows no autoencoder compares samples with test images, by its features (Fréchet
distance, precision and recall, density and coverage) and its readings. Reconstructions and training
images pass the same measures, to tell what the generator can draw from where the prior puts it.
Each training is held against another random set of test images, so that the spread of the trainings
says what their choice does. Distances to the nearest real image would show a generator that had
learned its training images by heart.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from experiments.question_c import SEED
from experiments.question_c.autoencoders import CONTENDERS, Vaes, reconstructions
from experiments.question_c.spread import over_seeds
from pyro_vae.analysis.features import nearest_distance
from pyro_vae.analysis.fidelity import density_coverage, frechet_distance, precision_recall
from pyro_vae.analysis.judges import Classifier, class_features, class_probabilities
from pyro_vae.analysis.plots import short_name, show_image
from pyro_vae.analysis.sampling import decode
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.seeds import derive_seed
from pyro_vae.vae import Vae

MOST = 3000  # of precision, density and so on: all distances between them are held at once
Shown = dict[str, tuple[Tensor, np.ndarray]]  # of each contender: samples, and their readings


def measure(vaes: Vaes, data: Dataset, classifier: Classifier, count: int) -> tuple[dict, Shown]:
    """Compare `count` samples, and as many reconstructions, with as many test images.

    Returns 12 samples of each first training for the figure too.
    """
    real = data.test_images[random_positions(data.test_images, count, SEED)]
    real_features = class_features(classifier, real)
    few = max(2, count // 5)  # whose nearest real images are looked for

    def judge(images: Tensor, training: int) -> dict:
        some = random_positions(real, MOST, derive_seed(SEED, training, 2))
        found = fidelity(images, real_features, some, classifier)
        return found | nearest_real(images[:few], data)

    num_train, num_test = len(data.train_images), len(data.test_images)
    of_training = data.train_images[random_positions(data.train_images, count, SEED)]
    p = class_probabilities(classifier, real)
    metrics: dict = {
        "images": len(real),
        "images_of_neighbours": min(count, MOST),
        "images_of_nearest": few,
        "nearest_is_training_by_chance": num_train / (num_train + num_test),
        "training images": judge(of_training, 0),
        "test images": {
            **confidence(p),
            "nearest_training": float(np.median(nearest_distance(real[:few], data.train_images))),
        },
    }
    shown = {}
    for key, seeds in vaes.items():
        drawn, rebuilt, copied = [], [], []
        for training, vae in enumerate(tqdm(seeds, desc=f"{key}: samples")):
            images = prior_images(vae, len(real), training)
            drawn.append(judge(images, training))
            rebuilt.append(judge(reconstructions(vae, real), training))
            # near copies, such as a generator that had learned the images by heart would draw
            copied.append(nearest_real(reconstructions(vae, of_training[:few]), data))
            if training == 0:
                shown[key] = (images[:12], class_probabilities(classifier, images[:12]))
        metrics[key] = {
            "prior": over_seeds(drawn),
            "reconstructions": over_seeds(rebuilt),
            "reconstructions_of_training": over_seeds(copied),
        }
    return metrics, shown


def prior_images(vae: Vae, count: int, training: int) -> Tensor:
    """Draw `count` mean images from the prior, `(count, 1, 28, 28)`."""
    rng = torch.Generator().manual_seed(derive_seed(SEED, training, 1))  # not a block's
    return decode(vae.model, torch.randn(count, vae.latent_dim, generator=rng))


def fidelity(
    images: Tensor, real_features: np.ndarray, some: np.ndarray, classifier: Classifier
) -> dict:
    """Compare images with real ones by the classifier's features, and say what it reads.

    Measures of neighbours are against `some` of the real images, by their positions.
    """
    features = class_features(classifier, images)
    p = class_probabilities(classifier, images)
    share = np.bincount(p.argmax(1), minlength=p.shape[1]) / len(p)
    precision, recall = precision_recall(real_features[some], features[:MOST])
    density, coverage = density_coverage(real_features[some], features[:MOST])
    return {
        "frechet": frechet_distance(real_features, features),
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        **confidence(p),
        "class_share": share.tolist(),
        "class_entropy": float(-(share * np.log(share.clip(1e-12))).sum()),
    }


def confidence(p: np.ndarray) -> dict[str, float]:
    """Return how sure a classifier is, from its probabilities of the classes, `(B, C)`."""
    highest = p.max(1)
    return {
        "confidence": float(highest.mean()),
        "share_confident": float((highest > 0.95).mean()),
    }


def nearest_real(images: Tensor, data: Dataset) -> dict[str, float]:
    """Return how far images are from the training images, and how often one is the nearest.

    The share is that of `images` to which, of all real images, a training image is nearest. Images
    that have nothing to do with the training have it for nearly the share of the training images
    in all real ones: "nearest_is_training_by_chance".
    """
    train, test = (nearest_distance(images, real) for real in (data.train_images, data.test_images))
    return {
        "nearest_training": float(np.median(train)),
        "nearest_is_training": float((train < test).mean()),
    }


def figure(shown: Shown, metrics: dict, classes: tuple[str, ...]) -> Figure:
    """Draw twelve samples of each first training, under the class that the classifier reads."""
    names = [short_name(name) for name in classes]
    figure = Figure(figsize=(12, 3.9))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(shown), 12)
    for axes, (key, (images, p)) in zip(grid, shown.items(), strict=True):
        for ax, image, row in zip(axes, images, p, strict=False):
            show_image(ax, image, f"{names[row.argmax()]}: {row.max():.0%}")
        coverage = metrics[key]["prior"]["coverage"]["mean"]
        label = f"{CONTENDERS[key].label}\ncoverage {coverage:.2f}"
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
    figure.suptitle("Samples of the first trainings, and how surely the classifier reads them")
    return figure
