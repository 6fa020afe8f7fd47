"""How many of its latent dimensions does each autoencoder use, and what does each one draw?

A dimension whose posterior equals the prior for every image tells the generator nothing. So 20
dimensions may hold fewer active units than 20. A unit that is active may still change the style
alone, or turn one digit into another: that is what the classifier is asked.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_c.autoencoders import CONTENDERS, Vaes
from experiments.question_c.spread import over_seeds
from pyro_vae.analysis.active_units import active_units
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.plots import show_image
from pyro_vae.analysis.sampling import decode, posterior_moments
from pyro_vae.data.dataset import Dataset
from pyro_vae.vae import Vae

MOST = 4  # units that are drawn


def measure(vaes: Vaes, data: Dataset, x: Tensor, classifier: Classifier) -> dict:
    """Return how much each unit is used, over the test images, and what moving it does to `x`.

    The activity is the variance of the unit's posterior mean; the KL is from the prior.
    """
    metrics = {}
    for key, seeds in vaes.items():
        trainings, orders = [], []
        for vae in seeds:
            use = active_units(*posterior_moments(vae.guide, data.test_images))
            changes = digit_changes(vae, x, use.order, classifier)
            trainings.append(
                {
                    "active": use.active,
                    "activity": use.activity,
                    "kl": use.kl,
                    "changes_digit": changes,
                    "changes_digit_mean": sum(changes[: use.active]) / max(1, use.active),
                }
            )
            orders.append(use.order)
        metrics[key] = over_seeds(trainings) | {"order_of_first_seed": orders[0]}
    return metrics


def digit_changes(vae: Vae, x: Tensor, order: list[int], classifier: Classifier) -> list[float]:
    """Return how often a unit alone changes the digit that the classifier reads, units in `order`.

    The share is over the images `x` and two moves, by 2 up and by 2 down from the guide's mean.
    """

    def read(z: Tensor) -> np.ndarray:
        return class_probabilities(classifier, decode(vae.model, z)).argmax(1)

    mean, _ = posterior_moments(vae.guide, x)
    digit, moves = read(mean), 2 * torch.eye(mean.shape[1])[order]
    return [
        float(np.mean([read(mean + move) != digit, read(mean - move) != digit])) for move in moves
    ]


def unit_images(vae: Vae, x: Tensor, order: list[int]) -> Tensor:
    """Draw the first units in `order` as each moves by -3 to 3, `(units, 7, 1, 28, 28)`.

    The middle column is the mean image at the guide's mean of `x`, `(1, 1, 28, 28)`: no unit moves.
    """
    mean, _ = posterior_moments(vae.guide, x)
    rows = []
    for unit in order[:MOST]:
        z = mean.repeat(7, 1)
        z[:, unit] += torch.arange(-3.0, 4.0)
        rows.append(decode(vae.model, z))
    return torch.stack(rows)


def figure(vaes: Vaes, x: Tensor, metrics: dict) -> Figure:
    """Draw the most used units of d = 4 and d = 20 around the image `x`, `(1, 1, 28, 28)`."""
    figure = Figure(figsize=(12, 4.1))
    figure.set_layout_engine("constrained")
    keys = ("d4", "d20")
    for part, key in zip(figure.subfigures(1, 2, wspace=0.03), keys, strict=True):
        images = unit_images(vaes[key][0], x, metrics[key]["order_of_first_seed"])
        for i, axes in enumerate(part.subplots(*images.shape[:2], squeeze=False)):
            for j, ax in enumerate(axes):
                show_image(ax, images[i, j], f"{j - 3:+d}".replace("-", "−") if i == 0 else "")
            axes[0].set_ylabel(f"{i + 1}", rotation=0, ha="right", va="center", labelpad=6)
        changes = metrics[key]["changes_digit_mean"]["mean"]
        part.suptitle(
            f"{CONTENDERS[key].label}: a unit moved by 2 changes what is read for {changes:.0%}",
            fontsize=12,
        )
    return figure
