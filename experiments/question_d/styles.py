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
from pyro_vae.analysis.plots import image_rows, short_name
from pyro_vae.analysis.sampling import decode_style, encode_style
from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError
from pyro_vae.vae import Vae

WAYS = (2, 3, 4, 7)  # the digits shown between two styles
IN_A_ROW = 10  # classes that a figure shows side by side, at most
LEAST = 4  # test images of each class


def check_images_of_each_class(data: Dataset) -> None:
    """Raise InputError unless there are LEAST test images of each class, to show and to compare."""
    counts = data.test_labels.bincount(minlength=len(data.classes))
    if counts.min() < LEAST:
        few = data.classes[int(counts.argmin())]
        raise InputError(
            f"--dataset {data.name}: class {few!r} has {counts.min()} test images, and question "
            f"(d) needs {LEAST} of each: add some"
        )


def some_classes(data: Dataset, wanted: tuple[int, ...]) -> list[int]:
    """Return the labels that are `wanted`, or as many of the first where there are too few."""
    count = len(data.classes)
    return [*wanted] if max(wanted) < count else [*range(min(len(wanted), count))]


def title_of(data: Dataset, label: int) -> str:
    """Return what to write above an image drawn with y = `label`: "y = 5", "Ankle boot"."""
    name = short_name(data.classes[label])
    return f"y = {name}" if len(name) < 4 else name


def every_class(style: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Pair each style of `(B, d)` with each of C labels: `(C B, d)` and `(C B,)`, y faster."""
    return style.repeat_interleave(classes, 0), torch.arange(classes).repeat(len(style))


def draw_styles(vae: Vae, count: int, seed: int = SEED) -> Tensor:
    """Draw e ~ N(0, I), `(count, d)`."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, vae.latent_dim, generator=rng)


def measure(vae: Vae, data: Dataset, classifier: Classifier) -> tuple[dict, Tensor, np.ndarray]:
    """Count how many of ten random styles of each class the classifier reads as their y.

    Also returns the images, `(C, 10, 1, 28, 28)`, and what is read, `(C, 10)`, a class a row.
    """
    y = torch.arange(len(data.classes)).repeat_interleave(10)
    images = decode_style(vae.model, draw_styles(vae, len(y), seed=SEED + 1), y)
    read_as = class_probabilities(classifier, images).argmax(1)
    metrics = {"images": len(y), "read_as_y": int((read_as == y.numpy()).sum())}
    return metrics, images.unflatten(0, (-1, 10)), read_as.reshape(-1, 10)


def figure(data: Dataset, images: Tensor, read_as: np.ndarray, columns: int = 6) -> Figure:
    """Show six random styles of every class, and what the classifier reads where it errs."""
    names = [short_name(name) for name in data.classes]
    read = "read as " if max(map(len, names)) < 4 else "as "
    titles = [
        ["" if label == y else f"{read}{names[label]}" for label in row[:columns]]
        for y, row in enumerate(read_as)
    ]
    return image_rows(
        list(images[:, :columns]),
        [title_of(data, label) for label in range(len(names))],
        f"Random samples of each {data.noun}: y fixed, the style drawn",
        titles,
        size=0.85,
    )


def sets_figure(vae: Vae, data: Dataset, classifier: Classifier) -> Figure:
    """Show four styles drawn from N(0, I), each on ten classes, and how many are read rightly."""
    classes = min(IN_A_ROW, len(data.classes))
    styles, y = every_class(draw_styles(vae, 4), classes)
    sets = decode_style(vae.model, styles, y)
    right = (class_probabilities(classifier, sets).argmax(1) == y.numpy()).sum()
    return image_rows(
        list(sets.unflatten(0, (4, classes))),
        [f"style {i + 1}" for i in range(4)],
        f"Four styles, one draw of N(0, I) a row: {right} of {len(y)} are read as their y",
        [[title_of(data, label) for label in range(classes)]] + [[""] * classes] * 3,
        size=1.05,
    )


def ways_figure(vae: Vae, data: Dataset, steps: int = 9) -> Figure:
    """Show the way from the style of one test image to that of another of the same class."""
    rows, shown = [], some_classes(data, WAYS)
    for label in shown:
        of_label = (data.test_labels == label).nonzero()[:6, 0]
        pair = of_label[[0, -1]]
        x, y = data.test_images[pair], data.test_labels[pair]
        ends = encode_style(vae.model, vae.guide, x, y, num_samples=DRAWS, seed=SEED).mean(0)
        styles = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, steps)[:, None])
        images = decode_style(vae.model, styles, y[:1].repeat(steps))
        rows.append(torch.cat([x[:1], images, x[1:]]))
    between = [f"{i}/{steps - 1}" for i in range(1, steps - 1)]
    titles = ["image 0", "t = 0", *between, "t = 1", "image 1"]
    return image_rows(
        rows,
        [title_of(data, label) for label in shown],
        "From one style to another: $f((1-t)\\,\\mu_0 + t\\,\\mu_1,\\, y)$, "
        "$\\mu_0$ and $\\mu_1$ the guide's mean styles of the two images",
        [titles] + [[""] * len(titles)] * (len(rows) - 1),
        size=1.05,
    )
