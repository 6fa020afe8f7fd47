"""Does one style look like one style on all ten digits?

A style e ~ N(0, I) is drawn without regard to the label, and f(e, y) = decoder(T_y(e), y). Here are
the pictures that the coursework asks for: one style over the ten digits, many styles of each digit,
and the way from one style to another. `disentanglement` has the numbers.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_d import DRAWS, SEED
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.plots import image_rows
from pyro_vae.analysis.sampling import decode_style, encode_style
from pyro_vae.data.datasets import Dataset
from pyro_vae.vae import Vae

WAYS = (2, 3, 4, 7)  # the digits shown between two styles


def every_digit(style: Tensor) -> tuple[Tensor, Tensor]:
    """Pair each style of `(B, d)` with each of ten labels: `(10 B, d)` and `(10 B,)`, y faster."""
    return style.repeat_interleave(10, 0), torch.arange(10).repeat(len(style))


def draw_styles(vae: Vae, count: int, seed: int = SEED) -> Tensor:
    """Draw e ~ N(0, I), `(count, d)`."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, vae.latent_dim, generator=rng)


def measure(vae: Vae, classifier: Classifier) -> tuple[dict, Tensor, np.ndarray]:
    """Count how many of ten random styles of each digit the classifier reads as their y.

    Also returns the images, `(10, 10, 1, 28, 28)`, and what is read, `(10, 10)`, a digit a row.
    """
    y = torch.arange(10).repeat_interleave(10)
    images = decode_style(vae.model, draw_styles(vae, 100, seed=SEED + 1), y)
    read_as = class_probabilities(classifier, images).argmax(1)
    metrics = {"images": len(y), "read_as_y": int((read_as == y.numpy()).sum())}
    return metrics, images.unflatten(0, (10, 10)), read_as.reshape(10, 10)


def figure(images: Tensor, read_as: np.ndarray) -> Figure:
    """Show ten random styles of every digit, and what the classifier reads where it errs."""
    titles = [
        ["" if digit == y else f"read as {digit}" for digit in row] for y, row in enumerate(read_as)
    ]
    return image_rows(
        list(images),
        [f"y = {digit}" for digit in range(10)],
        "Random samples of each digit: y fixed, the style drawn from N(0, I)",
        titles,
        size=0.95,
    )


def sets_figure(vae: Vae) -> Figure:
    """Show four styles drawn from N(0, I), each on the ten digits."""
    sets = decode_style(vae.model, *every_digit(draw_styles(vae, 4))).unflatten(0, (4, 10))
    return image_rows(
        list(sets),
        [f"style {i + 1}" for i in range(4)],
        "Four styles: one draw of N(0, I) for each row, y = 0, ..., 9",
        [[f"y = {digit}" for digit in range(10)]] + [[""] * 10] * 3,
        size=1.05,
    )


def ways_figure(vae: Vae, data: Dataset, steps: int = 9) -> Figure:
    """Show the way from the style of one test image to that of another of the same digit."""
    rows = []
    for digit in WAYS:
        pair = (data.test_labels == digit).nonzero()[[0, 5], 0]
        x, y = data.test_images[pair], data.test_labels[pair]
        ends = encode_style(vae.model, vae.guide, x, y, num_samples=DRAWS, seed=SEED).mean(0)
        styles = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, steps)[:, None])
        images = decode_style(vae.model, styles, y[:1].repeat(steps))
        rows.append(torch.cat([x[:1], images, x[1:]]))
    between = [f"{i}/{steps - 1}" for i in range(1, steps - 1)]
    titles = ["image 0", "t = 0", *between, "t = 1", "image 1"]
    return image_rows(
        rows,
        [f"y = {digit}" for digit in WAYS],
        "From one style to another: $f((1-t)\\,\\mu_0 + t\\,\\mu_1,\\, y)$, "
        "$\\mu_0$ and $\\mu_1$ the guide's mean styles of the two images",
        [titles] + [[""] * len(titles)] * (len(rows) - 1),
        size=1.05,
    )
