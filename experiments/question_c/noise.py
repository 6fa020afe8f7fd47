"""Noise, and the way between two images, as the classifier reads them."""

from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from experiments.question_c.autoencoders import SEED, Vaes, reconstructions
from experiments.question_c.spread import COLOURS, REAL, over_seeds, seeds_curve
from pyro_vae.analysis.interventions import gaussian_noise, salt_and_pepper
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.sampling import mean_images, posterior_moments

NOISES = {
    "Gaussian noise": (gaussian_noise, [0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0]),
    "salt and pepper": (salt_and_pepper, [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5]),
}


def robustness(vaes: Vaes, x: Tensor, labels: np.ndarray, classifier: Classifier) -> dict:
    """Reconstructions of noisy images, and the way between two images, as the classifier reads."""
    metrics: dict = {
        "images": len(x),
        "noise": {kind: {"level": levels} for kind, (_, levels) in NOISES.items()},
        "interpolation": {"t": np.linspace(0, 1, 11).tolist()},
    }

    def right(images: Tensor) -> float:
        return float((class_probabilities(classifier, images).argmax(1) == labels).mean())

    for kind, (add_noise, levels) in NOISES.items():
        rng = torch.Generator().manual_seed(SEED)
        noisy = [add_noise(x, level, rng) for level in levels]
        metrics["noise"][kind]["no autoencoder"] = [right(images) for images in noisy]
        for key, seeds in vaes.items():
            metrics["noise"][kind][key] = over_seeds(
                [[right(reconstructions(vae, images)) for images in noisy] for vae in seeds]
            )

    # from each image to the next, where these are different digits
    first = np.array([i for i, (a, b) in enumerate(pairwise(labels)) if a != b])
    t = torch.linspace(0, 1, 11)

    def along(start: Tensor, end: Tensor) -> Tensor:
        return torch.lerp(start, end, t.view(-1, *[1] * start.dim()))

    def readings(images: Tensor) -> dict:
        """Of images `(11, B, 1, 28, 28)` on the way from one digit to another."""
        p = class_probabilities(classifier, images.flatten(0, 1)).reshape(11, len(first), 10)
        read = p.argmax(-1)
        third = (read != labels[first]) & (read != labels[first + 1])
        return {
            "confidence": p.max(-1).mean(1).tolist(),
            "third_digit": third.mean(1).tolist(),
            "least_confidence": float(p.max(-1).min(0).mean()),
        }

    metrics["interpolation"]["pairs"] = len(first)
    metrics["interpolation"]["mix of the pixels"] = readings(along(x[first], x[first + 1]))
    for key, seeds in vaes.items():
        found = []
        for vae in seeds:
            z, _ = posterior_moments(vae.guide, x)
            images = mean_images(vae.model, along(z[first], z[first + 1]).flatten(0, 1))
            found.append(readings(images.unflatten(0, (11, -1))))
        metrics["interpolation"][key] = over_seeds(found)
    return metrics


def noise_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """Share of noisy images read rightly, as they are and after each autoencoder."""
    ax.plot(
        found["level"], found["no autoencoder"], "--", color=REAL, label="the noisy image itself"
    )
    for key in labels:
        seeds_curve(ax, found["level"], found[key], COLOURS[key])
    ax.set(
        xlabel="level of Gaussian noise",
        ylim=(0, 1.02),
        ylabel="read as the true digit",
        title="Reconstructions of noisy images",
    )
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(fontsize=8.5)


def interpolation_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """Share read as a third digit on the way between two."""
    t = found["t"]
    mixed = found["mix of the pixels"]["third_digit"]
    ax.plot(t, mixed, "--", color=REAL, label="mix of the pixels")
    for key in labels:
        seeds_curve(ax, t, found[key]["third_digit"], COLOURS[key])
    ax.set(
        xlabel="t, from one image to another digit's",
        ylabel="read as neither of the two digits",
        title=f"Interpolation, {found['pairs']} pairs",
    )
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(fontsize=8.5, loc="upper left")
