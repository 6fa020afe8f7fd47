"""What z and y each carry."""

import numpy as np
import torch
from torch import Tensor

from experiments.question_d import SEED
from experiments.question_d.styles import draw_styles, every_digit
from pyro_vae.analysis.features import height, slant, stroke_width, width
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.probes import linear_probe, neighbour_probe, tree_probe
from pyro_vae.analysis.sampling import decode_style, encode_style
from pyro_vae.analysis.style import shared_correlation, shared_interval, shuffled
from pyro_vae.data import Dataset
from pyro_vae.likelihood.intervals import proportion_interval
from pyro_vae.vae import Vae

PROBED = 20_000  # training images that the readers of styles are fitted to
STYLE_FEATURES = {"stroke width": stroke_width, "slant": slant, "height": height, "width": width}


def measures(vae: Vae, data: Dataset, classifier: Classifier, count: int) -> dict:
    """Does y say which digit, the style nothing of it, and is it one style for all ten?

    `count` images say whether y is drawn, ten for each of count / 20 styles whether a style is one.
    The probes are fitted to one z ~ q(z | x, y) of each of some training images, and tried on the
    test images'; and the same of the styles e = T_y^-1(z). It is
    e that is the Z of X = f(Z, y): it is N(0, I) for every label, and all ten digits can be drawn
    from it. The z of a learned prior p(z | y) is not free of the label, nor meant to be.
    """
    print("measures: is y drawn, do readers find the label in the style, is it one style for all?")
    y = torch.arange(count) % 10
    images = decode_style(vae.model, draw_styles(vae, count, seed=SEED + 2), y)
    read = class_probabilities(classifier, images).argmax(1)
    right = read == y.numpy()

    seen = codes(vae, data.train_images[:PROBED], data.train_labels[:PROBED])
    unseen = codes(vae, data.test_images, data.test_labels)
    labels = (data.train_labels[:PROBED], data.test_labels)

    kinds = count // 20
    images = decode_style(vae.model, *every_digit(draw_styles(vae, kinds, seed=SEED + 3)))
    real, digit = data.test_images[:count], data.test_labels[:count].numpy()
    shared = {}
    for name, feature in STYLE_FEATURES.items():
        values, known = feature(images).reshape(kinds, 10), feature(real)
        shared[name] = {
            "shared": shared_correlation(values),
            "shared_ci95": shared_interval(values),
            "shuffled_sd": float(
                np.std([shared_correlation(shuffled(values, seed)) for seed in range(20)])
            ),
            # how much a feature varies among images of one digit, drawn and real
            "sd_within_digit": float(values.std(0).mean()),
            "sd_within_digit_real": float(
                np.mean([known[digit == one].std() for one in np.unique(digit)])
            ),
        }
    return {
        "generated": proportion_interval(right)
        | {"by_digit": [float(right[y.numpy() == digit].mean()) for digit in range(10)]},
        "read_as": np.array(
            [np.bincount(read[y.numpy() == digit], minlength=10) for digit in range(10)]
        ).tolist(),
        "probes": probes(seen[0], labels[0], unseen[0], labels[1]),
        "probes_of_z": probes(seen[1], labels[0], unseen[1], labels[1]),
        "styles": kinds,
        "consistency": shared,
    }


def codes(vae: Vae, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """One style e and its latent z = T_y(e), z ~ q(z | x, y), of each image: `(B, d)` each."""
    styles = encode_style(vae.model, vae.guide, x, y, num_samples=1, seed=SEED)[0]
    with torch.no_grad():
        return styles, vae.model.prior.latent(styles.to(vae.device), y.to(vae.device)).cpu()


def probes(z: Tensor, y: Tensor, other_z: Tensor, other_y: Tensor) -> dict:
    """How well three readers, fitted to latents `z` and labels `y`, tell the label of others."""
    rows = (z.double().numpy(), y.numpy(), other_z.double().numpy(), other_y.numpy())
    linear, linear_nats = linear_probe(*rows)
    trees, tree_nats = tree_probe(*rows)
    found = {"linear": linear, "neighbours": neighbour_probe(*rows), "trees": trees}
    best = max(found.values())
    return {
        "fitted_to": len(y),
        "images": len(other_y),
        "largest_class": float(np.bincount(other_y).max() / len(other_y)),
        **found,
        "best": best,
        "best_se": float(np.sqrt(best * (1 - best) / len(other_y))),
        "information_nats_at_least": max(linear_nats, tree_nats),
    }
