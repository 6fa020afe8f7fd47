"""What does each dimension of the style do, and how much is it used?

A dimension is used if the posterior mean of the style moves along it from image to image. If style
is one thing for all digits, a dimension should do the same to two different digits.
"""

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.question_d import DRAWS, SEED
from experiments.question_d.styles import some_classes, title_of
from pyro_vae.analysis.active_units import ACTIVE_VARIANCE
from pyro_vae.analysis.features import slant, stroke_width, width
from pyro_vae.analysis.plots import show_image
from pyro_vae.analysis.sampling import decode_style, encode_style
from pyro_vae.data.dataset import Dataset
from pyro_vae.vae import Vae

DIGITS = (2, 4)  # shown
NAMED = {"weight": stroke_width, "slant": slant, "width": width}  # a unit is shown of each
STEPS = torch.linspace(-2.5, 2.5, 7)


def measure(vae: Vae, data: Dataset) -> tuple[dict, dict[str, int]]:
    """Estimate the variance of the style's posterior mean along each dimension.

    Also return, for each feature of NAMED, the dimension whose posterior mean goes most with it:
    the correlation is that within the classes.
    """
    x, y = data.test_images, data.test_labels
    styles = encode_style(vae.model, vae.guide, x, y, num_samples=DRAWS, seed=SEED)  # (K, B, d)
    # the mean of K draws varies by their noise too, which is taken off
    activity = styles.mean(0).var(0) - styles.var(0).mean(0) / DRAWS
    table = np.column_stack([styles.mean(0).cpu().double(), *(f(x) for f in NAMED.values())])
    for label in y.unique().tolist():
        table[y == label] -= table[y == label].mean(0)
    with np.errstate(invalid="ignore"):  # of a dimension that is not used
        correlation = np.nan_to_num(np.corrcoef(table, rowvar=False))
    correlation = correlation[: vae.latent_dim, vae.latent_dim :]
    named: dict[str, int] = {}
    for name, column in zip(NAMED, np.abs(correlation).T, strict=True):
        free = [unit for unit in range(len(column)) if unit not in named.values()]
        named[name] = max(free or range(len(column)), key=lambda unit: column[unit])
    metrics = {
        "activity": activity.sort(descending=True).values.tolist(),
        "active": int((activity > ACTIVE_VARIANCE).sum()),
        "correlation": {
            name: float(correlation[unit, place])
            for place, (name, unit) in enumerate(named.items())
        },
    }
    return metrics, named


def figure(vae: Vae, data: Dataset, metrics: dict, named: dict[str, int]) -> Figure:
    """Show what the units that go most with weight, slant and width do to two classes."""
    shown = some_classes(data, DIGITS)
    figure = Figure(figsize=(11.5, 3.6))
    figure.set_layout_engine("constrained")
    for part, label in zip(figure.subfigures(1, len(shown), wspace=0.03), shown, strict=True):
        grid = part.subplots(len(named), len(STEPS), squeeze=False)
        for i, (axes, (name, unit)) in enumerate(zip(grid, named.items(), strict=True)):
            styles = torch.zeros(len(STEPS), vae.latent_dim)
            styles[:, unit] = STEPS
            images = decode_style(vae.model, styles, torch.full((len(STEPS),), label))
            for ax, image, step in zip(axes, images, STEPS.tolist(), strict=True):
                show_image(ax, image, f"{step:+.1f}".replace("-", "−") if i == 0 else "")
            text = f"{name}\nr = {metrics['correlation'][name]:.2f}".replace("-", "−")
            axes[0].set_ylabel(text, rotation=0, ha="right", va="center", labelpad=6)
        part.suptitle(title_of(data, label), fontsize=12)
    figure.suptitle("The units of style that go most with weight, slant and width, moved alone")
    return figure
