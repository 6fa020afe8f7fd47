"""Samples, as the classifier sees them."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from experiments.question_c.autoencoders import SEED, Vaes, reconstructions
from experiments.question_c.spread import COLOURS, REAL, over_seeds
from pyro_vae.analysis.features import nearest_distance
from pyro_vae.analysis.fidelity import frechet_distance, precision_recall
from pyro_vae.analysis.judges import Classifier, class_features, class_probabilities
from pyro_vae.analysis.plots import show_image
from pyro_vae.analysis.sampling import mean_images
from pyro_vae.data import Dataset
from pyro_vae.seeds import derive_seed


def samples(
    vaes: Vaes, data: Dataset, classifier: Classifier, count: int
) -> tuple[dict, dict[str, tuple[Tensor, np.ndarray]]]:
    """Mean images of draws from the prior, beside real ones, as the classifier sees them.

    And, for the first seeds, some of them with the classifier's reading of each.
    """
    real, train = data.test_images[:count], data.train_images[:count]
    real_features = class_features(classifier, real)
    some = max(2, count // 5)
    few = min(count, 3000)  # all distances between them are held at once

    def nearness(images: Tensor) -> dict:
        """Of `images`, the share to which, of all real images, a training image is nearest.

        Images that have nothing to do with the training have it for the share of the training
        images in all real ones, nearly: see "nearest_is_training_by_chance".
        """
        nearest, nearest_test = (
            nearest_distance(images[:some], others)
            for others in (data.train_images, data.test_images)
        )
        return {
            "nearest_training": float(np.median(nearest)),
            "nearest_is_training": float((nearest < nearest_test).mean()),
        }

    def measure(images: Tensor) -> dict:
        features = class_features(classifier, images)
        p = class_probabilities(classifier, images)
        share = np.bincount(p.argmax(1), minlength=10) / len(p)
        precision, recall = precision_recall(real_features[:few], features[:few])
        return {
            "frechet": frechet_distance(real_features, features),
            "precision": precision,
            "recall": recall,
            "confidence": float(p.max(1).mean()),
            "share_confident": float((p.max(1) > 0.95).mean()),
            "class_share": share.tolist(),
            "class_entropy": float(-(share * np.log(share.clip(1e-12))).sum()),
            **nearness(images),
        }

    metrics: dict = {
        "images": len(real),
        "images_of_precision_and_recall": few,
        "images_of_nearest": some,
        "nearest_is_training_by_chance": len(data.train_images)
        / (len(data.train_images) + len(data.test_images)),
        "training images": measure(train),
    }
    own = class_probabilities(classifier, real)
    metrics["test images"] = {
        "confidence": float(own.max(1).mean()),
        "share_confident": float((own.max(1) > 0.95).mean()),
        "nearest_training": float(np.median(nearest_distance(real[:some], data.train_images))),
    }
    # which a guide turns into copies, such as a generator that had learned them by heart would draw
    chosen = np.random.default_rng(SEED).permutation(len(data.train_images))[:some]
    shown = {}
    for key, seeds in vaes.items():
        drawn, rebuilt, copied = [], [], []
        for training, vae in enumerate(tqdm(seeds, desc=f"{key}: samples")):
            d = vae.model.decoder.latent_dim
            rng = torch.Generator().manual_seed(derive_seed(SEED, training))
            z = torch.randn(len(real), d, generator=rng)
            images = mean_images(vae.model, z)
            drawn.append(measure(images))
            rebuilt.append(measure(reconstructions(vae, real)))
            copied.append(nearness(reconstructions(vae, data.train_images[chosen])))
            if vae is seeds[0]:
                shown[key] = (images[:24], class_probabilities(classifier, images[:24]))
        metrics[key] = {
            "prior": over_seeds(drawn),
            "reconstructions": over_seeds(rebuilt),
            "reconstructions_of_training": over_seeds(copied),
        }
    return metrics, shown


def samples_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """Frechet distance to real images, of samples and of reconstructions."""
    kinds = {"prior": "samples\nfrom the prior", "reconstructions": "reconstructions"}
    for offset, key in zip((-0.22, 0, 0.22), labels, strict=True):
        for place, kind in enumerate(kinds):
            seeds = found[key][kind]["frechet"]["seeds"]
            ax.plot([place + offset] * len(seeds), seeds, "o", ms=6, alpha=0.8, color=COLOURS[key])
    ax.axhline(found["training images"]["frechet"], color=REAL, ls="--", label="training images")
    ax.set_xticks(range(2), kinds.values())
    ax.set(
        yscale="log",
        ylim=(0.5, 3000),
        xlim=(-0.6, 1.6),
        ylabel="Fréchet distance (features of the classifier)",
        title=f"Distance from {found['images']:,} test images",
    )
    ax.legend(fontsize=8.5)


def samples_figure(
    shown: dict[str, tuple[Tensor, np.ndarray]], found: dict, labels: dict[str, str]
) -> Figure:
    """Draws from the prior under the digit that the classifier reads, and how sure it is."""
    figure = Figure(figsize=(14, 9.6))
    figure.set_layout_engine("constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[6.9, 2.7])
    above.suptitle("Samples of the first trainings; shares, precision and recall: means of all")
    parts = above.subfigures(1, len(shown))
    for part, (key, (images, p)) in zip(parts, shown.items(), strict=True):
        for ax, image, row in zip(part.subplots(6, 4).flat, images, p, strict=True):
            show_image(ax, image, f"{row.argmax()}: {row.max():.0%}")
        prior = found[key]["prior"]
        part.suptitle(
            f"{labels[key]}: {prior['share_confident']['mean']:.0%} read with > 95%\n"
            f"precision {prior['precision']['mean']:.2f}, recall {prior['recall']['mean']:.2f}",
            fontsize=11,
        )
    ax = below.subplots()
    for offset, (key, label) in zip((-0.25, 0, 0.25), labels.items(), strict=True):
        share = found[key]["prior"]["class_share"]
        ax.bar(np.arange(10) + offset, share["mean"], 0.23, color=COLOURS[key], label=label)
        for seed in share["seeds"]:
            ax.plot(np.arange(10) + offset, seed, "k.", ms=3)
    real = found["training images"]["class_share"]
    ax.hlines(real, np.arange(10) - 0.4, np.arange(10) + 0.4, color=REAL, ls="--", label="real")
    ax.set(
        xticks=range(10),
        xlabel="digit that the classifier reads",
        ylabel="share of the samples",
        title="As which digits samples are read (bars: mean of the trainings, dots: each)",
    )
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(fontsize=9, ncols=4)
    return figure
