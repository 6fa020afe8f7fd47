"""What each dimension of style does."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_d import DRAWS, SEED
from pyro_vae.analysis.active_units import ACTIVE_VARIANCE
from pyro_vae.analysis.plots import show_image
from pyro_vae.analysis.sampling import decode_style, encode_style
from pyro_vae.data import Dataset
from pyro_vae.vae import Vae


def active_units(vae: Vae, data: Dataset) -> tuple[Figure, dict]:
    """What each of the most used dimensions does to two digits, and how much each is used."""
    rows = (data.test_images, data.test_labels)
    styles = encode_style(vae.model, vae.guide, *rows, num_samples=DRAWS, seed=SEED)
    # of the posterior means; what the noise of so few draws adds to it is taken off
    activity = styles.mean(0).var(0) - styles.var(0).mean(0) / DRAWS
    activity, order = activity.sort(descending=True)
    steps = torch.linspace(-2.5, 2.5, 7)
    images = {}
    for digit in (2, 4):
        rows = []
        for unit in order[:6].tolist():
            styles = torch.zeros(7, len(order))
            styles[:, unit] = steps
            rows.append(decode_style(vae.model, styles, torch.full((7,), digit)))
        images[digit] = torch.stack(rows)
    metrics = {"activity": activity.tolist(), "active": int((activity > ACTIVE_VARIANCE).sum())}
    return units_figure(images, steps.tolist(), activity.tolist()), metrics


def units_figure(images: dict[int, Tensor], steps: list[float], activity: list[float]) -> Figure:
    """What the most used dimensions of style do to two digits, the others at zero."""
    figure = Figure(figsize=(12.6, 6.6))
    figure.set_layout_engine("constrained")
    for part, (digit, rows) in zip(figure.subfigures(1, len(images)), images.items(), strict=True):
        grid = part.subplots(*rows.shape[:2])
        for i, (axes, row) in enumerate(zip(grid, rows, strict=True)):
            for ax, image, step in zip(axes, row, steps, strict=True):
                show_image(ax, image, f"{step:.1f}".replace("-", "−") if i == 0 else "")
            axes[0].set_ylabel(
                f"unit {i + 1}\nvar {activity[i]:.2f}",
                rotation=0, ha="right", va="center", labelpad=6, fontsize=8.5,
            )  # fmt: skip
        part.suptitle(f"y = {digit}", fontsize=11.5)
    figure.suptitle(
        f"{len(rows)} of the {len(activity)} dimensions of style, one at a time, on two digits"
    )
    return figure
