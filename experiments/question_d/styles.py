"""Sets of digits in one style, and the way from one style to another."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_d import DRAWS, SEED
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.plots import image_rows
from pyro_vae.analysis.sampling import decode_style, encode_style
from pyro_vae.data import Dataset
from pyro_vae.vae import Vae


def every_digit(style: Tensor) -> tuple[Tensor, Tensor]:
    """Styles `(B, d)`, each with each of ten labels: `(10 B, d)` and `(10 B,)`, y the faster."""
    return style.repeat_interleave(10, 0), torch.arange(10).repeat(len(style))


def draw_styles(vae: Vae, count: int, seed: int = SEED) -> Tensor:
    """e ~ N(0, I), `(count, d)`."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, vae.model.decoder.latent_dim, generator=rng)


def digit_samples(vae: Vae, classifier: Classifier) -> tuple[Figure, dict]:
    """Ten random styles of every digit, with what the classifier reads where it reads another."""
    y = torch.arange(10).repeat_interleave(10)
    images = decode_style(vae.model, draw_styles(vae, 100, seed=SEED + 1), y)
    read = class_probabilities(classifier, images).argmax(1)
    metrics = {"images": len(y), "read_as_y": int((read == y.numpy()).sum())}
    return digits_figure(images.unflatten(0, (10, 10)), read.reshape(10, 10)), metrics


def style_ways(vae: Vae, data: Dataset, pairs: list[tuple[int, int]]) -> Figure:
    """From one image's style to another's of the same digit, at fixed y."""
    rows, digits = [], []
    for pair in pairs:
        x, y = data.test_images[list(pair)], data.test_labels[list(pair)]
        ends = encode_style(vae.model, vae.guide, x, y, num_samples=DRAWS, seed=SEED).mean(0)
        styles = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, 9)[:, None])
        way = decode_style(vae.model, styles, y[:1].repeat(9))
        rows.append(torch.cat([x[:1], way, x[1:]]))
        digits.append(int(y[0]))
    return ways_figure(rows, digits)


def styles_figure(sets: Tensor) -> Figure:
    """Four styles drawn from N(0, I), each over the ten digits."""
    return image_rows(
        list(sets),
        [f"style {i + 1}" for i in range(len(sets))],
        "Four styles: one draw of N(0, I) for each row, y = 0, ..., 9",
        [[f"y = {digit}" for digit in range(10)]] + [[""] * 10] * (len(sets) - 1),
        size=1.05,
    )


def digits_figure(images: Tensor, read: np.ndarray) -> Figure:
    """Ten random styles of every digit; what the classifier reads is said where it differs."""
    titles = [
        ["" if seen == digit else f"read as {seen}" for seen in row]
        for digit, row in enumerate(read)
    ]
    return image_rows(
        list(images),
        [f"y = {digit}" for digit in range(10)],
        "Random samples of each digit: y fixed, the style drawn from N(0, I)",
        titles,
        size=0.95,
    )


def ways_figure(rows: list[Tensor], digits: list[int]) -> Figure:
    """From the style of one image to that of another, the digit fixed."""
    steps = rows[0].shape[0] - 2
    between = [f"{i}/{steps - 1}" for i in range(1, steps - 1)]
    titles = ["image 0", "t = 0", *between, "t = 1", "image 1"]
    return image_rows(
        rows,
        [f"y = {digit}" for digit in digits],
        "From one style to another: $f((1-t)\\,\\mu_0 + t\\,\\mu_1,\\, y)$, "
        "$\\mu_0$ and $\\mu_1$ the guide's mean styles of the two images",
        [titles] + [[""] * len(titles)] * (len(rows) - 1),
        size=1.05,
    )
