"""What each latent dimension does."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_c.autoencoders import Vae, Vaes
from experiments.question_c.spread import COLOURS, over_seeds
from pyro_vae.analysis.active_units import active_units
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.plots import show_image
from pyro_vae.analysis.sampling import mean_images, posterior_moments
from pyro_vae.data import Dataset


def units(vaes: Vaes, data: Dataset, x: Tensor, classifier: Classifier) -> dict:
    """How much each latent dimension is used: variance of its mean over the test images, and KL.

    And what it does to the digit: of the images `x`, the share of which the classifier reads
    another digit when the dimension alone is moved by 2 from the guide's mean, up or down.
    """
    metrics = {}
    for key, seeds in vaes.items():
        found, orders = [], []
        for vae in seeds:
            use = active_units(*posterior_moments(vae.guide, data.test_images))
            loc, _ = posterior_moments(vae.guide, x)

            def read(z: Tensor, vae: Vae = vae) -> np.ndarray:
                return class_probabilities(classifier, mean_images(vae.model, z)).argmax(1)

            digit, moves = read(loc), 2 * torch.eye(loc.shape[1])[use.order]
            changes = [
                float(np.mean([read(loc + move) != digit, read(loc - move) != digit]))
                for move in moves
            ]
            found.append(
                {
                    "active": use.active,
                    "activity": use.activity,
                    "kl": use.kl,
                    "changes_digit": changes,
                    "changes_digit_mean": sum(changes[: use.active]) / max(1, use.active),
                }
            )
            orders.append(use.order)
        metrics[key] = over_seeds(found) | {"order_of_first_seed": orders[0]}
    return metrics


def unit_images(vae: Vae, x: Tensor, order: list[int], most: int = 20) -> Tensor:
    """What the first units in `order` draw, `(units, 9, 1, 28, 28)`: one is moved from -3 to 3.

    The others stay where the guide puts the image `x`, shape `(1, 1, 28, 28)`.
    """
    rows = []
    loc, _ = posterior_moments(vae.guide, x)
    for unit in order[:most]:
        z = loc.repeat(9, 1)
        z[:, unit] = torch.linspace(-3, 3, 9)
        rows.append(mean_images(vae.model, z))
    return torch.stack(rows)


def units_figure(drawn: dict[str, Tensor], units: dict, labels: dict[str, str]) -> Figure:
    """What the most used dimensions of d = 4 and d = 20 draw, and how much of each is used."""
    few, many = (len(drawn[key]) for key in ("d4", "d20"))
    figure = Figure(figsize=(13.5, 0.66 * many + 1.2))
    figure.set_layout_engine("constrained")
    left, right = figure.subfigures(1, 2)
    above, below = left.subfigures(2, 1, height_ratios=[few + 0.6, max(many - few, 4)])
    for part, (key, rows) in zip((above, right), drawn.items(), strict=True):
        for i, axes in enumerate(part.subplots(*rows.shape[:2], squeeze=False)):
            for j, ax in enumerate(axes):
                show_image(ax, rows[i, j], f"{-3 + 0.75 * j:g}".replace("-", "−") if i == 0 else "")
            axes[0].set_ylabel(f"{i + 1}", rotation=0, ha="right", va="center", labelpad=6)
        part.suptitle(
            f"{labels[key]}, first training: one unit (rows, the most used first) at each value",
            fontsize=11.5,
        )
    says, changes = below.subplots(2, 1, sharex=True)
    for key, label in labels.items():
        active = units[key]["active"]["mean"]
        ranked_curve(says, units[key]["kl"], COLOURS[key], f"{label}: {active:.3g} active")
        ranked_curve(changes, units[key]["changes_digit"], COLOURS[key], label)
    says.set(ylabel="KL, nats", title="How much each unit says (dots: trainings)")
    says.legend(fontsize=9)
    changes.set(
        xlabel="unit, the most telling (above), the most changing (below) first",
        ylabel="images",
        title="Read as another digit when the unit moves by 2",
    )
    changes.xaxis.get_major_locator().set_params(integer=True)
    changes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def ranked_curve(ax: Axes, found: dict, colour: str, label: str) -> None:
    """Values of each unit in falling order, one dot for each training, and their mean."""
    values = -np.sort(-np.array(found["seeds"])).T  # (d, seeds)
    rank = np.arange(1, len(values) + 1)
    ax.plot(rank, values, ".", ms=4, color=colour, alpha=0.6)
    ax.plot(rank, values.mean(1), "-", color=colour, label=label)
    ax.set_ylim(0, None)
