"""Figures: rows of images on one grey scale, and files that are the same for every run."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from pyro_vae.data.dataset import Dataset
from pyro_vae.data.loading import DATASETS
from pyro_vae.errors import InputError, check_number, check_rows, checked, describe
from pyro_vae.storage.files import atomic_write

# settings of every figure; the scripts set them, so importing this module changes nobody's figures
RC_PARAMS = {
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.titlesize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "savefig.dpi": 130,
}

PAGE = 850  # pixels: how wide a figure is shown
LEAST_TEXT = 9  # pixels on that page

# colours of the encoder, of the posterior or the refined guide, and of annealing
COLOURS = {"guide": "#d95f02", "posterior": "#1b6ca8", "annealed": "#4d9221"}


def short_name(name: str, most: int = 12) -> str:
    """Return the name of a class, cut to fit above an image; a dollar begins no formula."""
    return (name if len(name) <= most else f"{name[: most - 1]}…").replace("$", r"\$")


def name_of_image(data: Dataset, label: int) -> str:
    """Return what a figure calls an image with this label: "a 7", "Ankle boot"; "" without one."""
    name = short_name(data.classes[label]) if label >= 0 else ""
    return f"a {name}" if data.noun == "digit" else name


def class_colours(count: int) -> list[tuple[float, ...]]:
    """Return a colour for each of `count` classes: Matplotlib's own ten, twenty, or a rainbow."""
    if count <= 20:
        return list(mpl.colormaps["tab10" if count <= 10 else "tab20"].colors[:count])
    return [tuple(colour) for colour in mpl.colormaps["gist_rainbow"](np.linspace(0, 1, count))]


@checked
def show_image(ax: Axes, image: Tensor, title: str = "") -> None:
    """Draw one image, `(1, 28, 28)`; black is 0 and white is 1 in every figure."""
    if image.shape not in ((28, 28), (1, 28, 28)) or not image.is_floating_point():
        raise InputError(f"image must be floats (1, 28, 28), not {describe(image)}")
    pixels = image.detach().reshape(28, 28).float().cpu().numpy()
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    ax.set_title(title, fontsize=8.5, pad=3)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_color("0.6")


@checked
def image_rows(
    rows: Sequence[Tensor],
    row_labels: Sequence[str],
    title: str,
    titles: Sequence[Sequence[str]] | None = None,
    size: float = 1.15,
) -> Figure:
    """Draw rows of images, each `(n, 1, 28, 28)`, with labels at the left and titles above."""
    for row in rows or [Tensor()]:
        check_rows(row, first="rows")
    if len(row_labels) != len(rows):
        raise InputError(f"row_labels must be one for each of {len(rows)} rows")
    if titles is not None and [*map(len, titles)] != [*map(len, rows)]:
        raise InputError("titles must be one for each image of each row")
    check_number("size", size, 0.1, 10)
    columns = max(len(row) for row in rows)
    width = size * columns + 1.9
    figure = Figure(figsize=(width, (size + 0.22) * len(rows) + 0.75))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for i, row in enumerate(rows):
        for j, ax in enumerate(axes[i]):
            if j < len(row):
                show_image(ax, row[j], titles[i][j] if titles else "")
            else:
                ax.axis("off")
        axes[i, 0].set_ylabel(
            row_labels[i], rotation=0, ha="right", va="center", labelpad=8, fontsize=9
        )
    # a title wider than its figure, of few columns, would be cut off; formulas cannot be broken
    lines = (line if "$" in line else fill(line, int(9 * width)) for line in title.splitlines())
    figure.suptitle("\n".join(lines))
    return figure


@checked
def save_figure(figure: Figure, path: str | Path, dataset: str) -> None:
    """Write a PNG that can be read on a page: equal figures give equal bytes.

    Text that would be too small there is enlarged. A data set that is not MNIST is named.
    """
    if dataset != "mnist":
        source = DATASETS.get(dataset, dataset)
        figure.supxlabel(f"data: {source}", x=0.995, ha="right", fontsize=7.5, color="0.4")
    least = LEAST_TEXT * 72 / PAGE * figure.get_figwidth()  # points
    for text in figure.findobj(Text):
        text.set_fontsize(max(text.get_fontsize(), least))
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
