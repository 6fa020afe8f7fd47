"""How many of its latent dimensions does each autoencoder use, and what does each one draw?

A dimension whose posterior equals the prior for every image tells the generator nothing. So 20
dimensions may hold fewer active units than 20. A unit that is active may still change the style
alone, or turn one digit into another: that is what the classifier is asked.
"""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_c.autoencoders import CONTENDERS, Vaes
from experiments.question_c.spread import COLOURS, over_seeds
from pyro_vae.analysis.active_units import active_units
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.plots import show_image
from pyro_vae.analysis.sampling import decode, posterior_moments
from pyro_vae.data.dataset import Dataset
from pyro_vae.vae import Vae

MOST = 20  # units that are drawn


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
    """Draw the first units in `order` as they move from -3 to 3, `(units, 9, 1, 28, 28)`.

    The others stay where the guide puts the image `x`, `(1, 1, 28, 28)`.
    """
    rows = []
    mean, _ = posterior_moments(vae.guide, x)
    for unit in order[:MOST]:
        z = mean.repeat(9, 1)
        z[:, unit] = torch.linspace(-3, 3, 9)
        rows.append(decode(vae.model, z))
    return torch.stack(rows)


def figure(vaes: Vaes, x: Tensor, metrics: dict) -> Figure:
    """Draw the most used units of d = 4 and d = 20 around the image `x`, and how each is used."""
    drawn = {
        key: unit_images(vaes[key][0], x, metrics[key]["order_of_first_seed"])
        for key in ("d4", "d20")
    }
    few, many = (len(images) for images in drawn.values())
    figure = Figure(figsize=(13.5, 0.66 * many + 1.2))
    figure.set_layout_engine("constrained")
    left, right = figure.subfigures(1, 2)
    above, below = left.subfigures(2, 1, height_ratios=[few + 0.6, max(many - few, 4)])
    for part, (key, images) in zip((above, right), drawn.items(), strict=True):
        for i, axes in enumerate(part.subplots(*images.shape[:2], squeeze=False)):
            for j, ax in enumerate(axes):
                value = f"{-3 + 0.75 * j:g}".replace("-", "−")
                show_image(ax, images[i, j], value if i == 0 else "")
            axes[0].set_ylabel(f"{i + 1}", rotation=0, ha="right", va="center", labelpad=6)
        part.suptitle(
            f"{CONTENDERS[key].label}, first training: one unit (rows, the most used first) at "
            "each value",
            fontsize=11.5,
        )
    use_panels(*below.subplots(2, 1, sharex=True), metrics)
    return figure


def use_panels(kl: Axes, changes: Axes, metrics: dict) -> None:
    """Draw the KL of each unit, and how often it changes the digit."""
    for key, contender in CONTENDERS.items():
        active = metrics[key]["active"]["mean"]
        label = f"{contender.label}: {active:.3g} active"
        ranked_curve(kl, metrics[key]["kl"]["seeds"], COLOURS[key], label)
        ranked_curve(changes, metrics[key]["changes_digit"]["seeds"], COLOURS[key])
    kl.set(ylabel="KL, nats", title="How much each unit says (dots: trainings)")
    kl.legend(fontsize=9)
    changes.set(
        xlabel="unit, the most telling (above), the most changing (below) first",
        ylabel="images",
        title="Read as another class when the unit moves by 2",
    )
    changes.xaxis.get_major_locator().set_params(integer=True)
    changes.yaxis.set_major_formatter("{x:.0%}")


def ranked_curve(ax: Axes, seeds: list[list[float]], colour: str, label: str = "") -> None:
    """Draw values of each unit in falling order, a dot for each training, and their mean."""
    values = -np.sort(-np.array(seeds)).T  # (d, seeds)
    rank = np.arange(1, len(values) + 1)
    ax.plot(rank, values, ".", ms=4, color=colour, alpha=0.6)
    ax.plot(rank, values.mean(1), "-", color=colour, label=label)
    ax.set_ylim(0, None)
