"""What does each dimension of the style do, and how much is it used?

A dimension is used if the posterior mean of the style moves along it from image to image. If style
is one thing for all digits, a dimension should do the same to two different digits.
"""

import torch
from matplotlib.figure import Figure

from experiments.question_d import DRAWS, SEED
from experiments.question_d.styles import some_classes, title_of
from pyro_vae.analysis.active_units import ACTIVE_VARIANCE
from pyro_vae.analysis.plots import show_image
from pyro_vae.analysis.sampling import decode_style, encode_style
from pyro_vae.data.dataset import Dataset
from pyro_vae.vae import Vae

DIGITS = (2, 4)  # shown
UNITS = 6  # shown, the most used first
STEPS = torch.linspace(-2.5, 2.5, 7)


def measure(vae: Vae, data: Dataset) -> tuple[dict, list[int]]:
    """Estimate the variance of the style's posterior mean along each dimension.

    Also returns the dimensions, the most used first, in the order of the `activity`.
    """
    x, y = data.test_images, data.test_labels
    styles = encode_style(vae.model, vae.guide, x, y, num_samples=DRAWS, seed=SEED)  # (K, B, d)
    # the mean of K draws varies by their noise too, which is taken off
    activity = styles.mean(0).var(0) - styles.var(0).mean(0) / DRAWS
    activity, order = activity.sort(descending=True)
    metrics = {"activity": activity.tolist(), "active": int((activity > ACTIVE_VARIANCE).sum())}
    return metrics, order.tolist()


def figure(vae: Vae, data: Dataset, metrics: dict, order: list[int]) -> Figure:
    """Show what the most used dimensions do to two classes, all others at zero."""
    units, shown = order[:UNITS], some_classes(data, DIGITS)
    figure = Figure(figsize=(12.6, 6.6))
    figure.set_layout_engine("constrained")
    for part, label in zip(figure.subfigures(1, len(shown)), shown, strict=True):
        grid = part.subplots(len(units), len(STEPS), squeeze=False)
        for i, (axes, unit) in enumerate(zip(grid, units, strict=True)):
            styles = torch.zeros(len(STEPS), len(order))
            styles[:, unit] = STEPS
            images = decode_style(vae.model, styles, torch.full((len(STEPS),), label))
            for ax, image, step in zip(axes, images, STEPS.tolist(), strict=True):
                show_image(ax, image, f"{step:.1f}".replace("-", "−") if i == 0 else "")
            axes[0].set_ylabel(
                f"unit {i + 1}\nvar {metrics['activity'][i]:.2f}",
                rotation=0, ha="right", va="center", labelpad=6, fontsize=8.5,
            )  # fmt: skip
        part.suptitle(title_of(data, label), fontsize=11.5)
    figure.suptitle(
        f"{len(units)} of the {len(order)} dimensions of style, one at a time, on two "
        + ("digits" if data.noun == "digit" else "classes")
    )
    return figure
