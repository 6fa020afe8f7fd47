"""What do z and y each carry?

Three questions, and a model may fail each without the others. Does y say which digit is drawn? A
classifier trained on the digits alone reads f(e, y). Does the style say nothing of the digit?
Probes are fitted to the styles of training images and tried on those of test images. Is a style
one style for all ten digits? Then a feature such as slant moves together in all of them.

The Z of X = f(Z, y) is the style e: it is N(0, I) for every label, and all ten digits can be drawn
from it. The latent z = T_y(e) of a learned prior p(z | y) depends on the label, and is meant to.
"""

import numpy as np
import torch
from torch import Tensor

from experiments.question_d import SEED
from experiments.question_d.styles import draw_styles, every_class
from pyro_vae.analysis.features import height, slant, stroke_width, width
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.probes import linear_probe, neighbour_probe, tree_probe
from pyro_vae.analysis.sampling import decode_style, encode_style
from pyro_vae.analysis.style import shared_correlation, shared_interval, shuffled
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.likelihood.intervals import proportion_interval
from pyro_vae.vae import Vae

PROBED = 20_000  # training images that the probes are fitted to
STYLE_FEATURES = {"stroke width": stroke_width, "slant": slant, "height": height, "width": width}


def measure(vae: Vae, data: Dataset, classifier: Classifier, count: int) -> dict:
    """Answer all three: the first from `count` images, the third from `count` / 20 styles."""
    print("measures: is y drawn, do probes find the label in the style, is it one style for all?")
    probed = random_positions(data.train_images, PROBED, SEED)
    y, other_y = data.train_labels[probed], data.test_labels
    e, z = codes(vae, data.train_images[probed], y)
    other_e, other_z = codes(vae, data.test_images, other_y)
    return {
        **generated(vae, classifier, count, len(data.classes)),
        "probes": probes(e, y, other_e, other_y),
        "probes_of_z": probes(z, y, other_z, other_y),
        "styles": count // 20,
        "consistency": consistency(vae, data, count),
    }


def generated(vae: Vae, classifier: Classifier, count: int, classes: int) -> dict:
    """Count how many of `count` images f(e, y), y = 0, 1, ..., C - 1, 0, ..., are read as their y.

    There is one of each class at least.
    """
    y = torch.arange(max(count, classes)) % classes
    images = decode_style(vae.model, draw_styles(vae, len(y), seed=SEED + 2), y)
    read_as = class_probabilities(classifier, images).argmax(1)
    by_digit = [read_as[y.numpy() == digit] for digit in range(classes)]
    return {
        "generated": proportion_interval(read_as == y.numpy())
        | {"by_digit": [float((part == digit).mean()) for digit, part in enumerate(by_digit)]},
        "read_as": [np.bincount(part, minlength=classes).tolist() for part in by_digit],
    }


def consistency(vae: Vae, data: Dataset, count: int) -> dict:
    """Correlate each feature between the digits of one style, over count / 20 styles.

    How much the feature varies within a digit says whether there is anything to share: `count` test
    images show how much it varies in real ones.
    """
    styles = draw_styles(vae, count // 20, seed=SEED + 3)
    images = decode_style(vae.model, *every_class(styles, len(data.classes)))
    chosen = random_positions(data.test_images, count, SEED)
    real, labels = data.test_images[chosen], data.test_labels[chosen].numpy()
    metrics = {}
    for name, feature in STYLE_FEATURES.items():
        values, of_real = feature(images).reshape(len(styles), -1), feature(real)
        by_chance = [shared_correlation(shuffled(values, seed)) for seed in range(20)]
        metrics[name] = {
            "shared": shared_correlation(values),
            "shared_ci95": shared_interval(values),
            "shuffled_sd": float(np.std(by_chance)),
            "sd_within_digit": float(values.std(0).mean()),
            "sd_within_digit_real": float(
                np.mean([of_real[labels == digit].std() for digit in np.unique(labels)])
            ),
        }
    return metrics


def codes(vae: Vae, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Draw z ~ q(z | x, y) of each image; return e = T_y^-1(z) and z, `(B, d)` each."""
    styles = encode_style(vae.model, vae.guide, x, y, num_samples=1, seed=SEED)[0]
    with torch.no_grad():
        return styles, vae.model.prior.latent(*vae.here(styles, y)).cpu()


def probes(z: Tensor, y: Tensor, other_z: Tensor, other_y: Tensor) -> dict:
    """Fit three probes to codes `z`, `(N, d)`, and labels `y`, and try them on others."""
    arrays = (z.double().numpy(), y.numpy(), other_z.double().numpy(), other_y.numpy())
    linear, linear_nats = linear_probe(*arrays)
    trees, tree_nats = tree_probe(*arrays)
    accuracies = {"linear": linear, "neighbours": neighbour_probe(*arrays), "trees": trees}
    best = max(accuracies.values())
    return {
        "fitted_to": len(y),
        "images": len(other_y),
        "largest_class": float(np.bincount(other_y).max() / len(other_y)),
        **accuracies,
        "best": best,
        "best_se": float(np.sqrt(best * (1 - best) / len(other_y))),
        "information_nats_at_least": max(linear_nats, tree_nats),
    }
