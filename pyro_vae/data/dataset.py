"""What a data set is: images, their labels, and what the labels are called."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import InputError, check_counts

DIGITS = tuple("0123456789")


class NoData(InputError):
    """The data set is not on this machine and cannot be downloaded. The message says what to do."""


class Dataset(NamedTuple):
    """Images in [0, 1] with shape `(N, 1, 28, 28)`, float32, and labels with shape `(N,)`.

    Label y is called `classes[y]`. Where the images have no labels, there are no classes, and
    every label is -1.

    >>> from pyro_vae import load_dataset
    >>> digits = load_dataset("digits")
    >>> digits.classes[digits.test_labels[0]]
    '1'
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...] = DIGITS

    @property
    def noun(self) -> str:
        """What the labels tell apart, as a figure calls it: "digit" or "class"."""
        return "digit" if self.classes == DIGITS else "class"


def random_positions(images: Tensor | np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the positions of `count` of the images, or of all, drawn at random without repeats.

    The first images of a data set are no random sample: the two halves of MNIST's test images were
    written by different people, and differ in slant, ink and score.
    """
    check_counts(0, count=count)
    return np.random.default_rng(seed).permutation(len(images))[:count]


def hold_out(data: Dataset, count: int) -> Dataset:
    """Return `data` with `count` random training images in place of the test images.

    Choose between designs or settings on these: a choice made on the test images favours what suits
    them by chance, and their score then reports that chance too.
    """
    images = len(data.train_images)
    if not 1 <= count < images:
        raise InputError(f"hold_out must be from 1 to {images - 1} training images, not {count}")
    chosen = torch.from_numpy(random_positions(data.train_images, images, seed=0))
    held, kept = chosen[:count].sort().values, chosen[count:].sort().values
    return data._replace(
        name=f"{data.name}-hold-out-{count}",
        train_images=data.train_images[kept],
        train_labels=data.train_labels[kept],
        test_images=data.train_images[held],
        test_labels=data.train_labels[held],
    )


def unit_interval(pixels: Tensor, white: int) -> Tensor:
    """Scale grey levels 0..white, `(N, H, W)`, to float32 in [0, 1], `(N, 1, H, W)`."""
    return pixels.float().div(white).unsqueeze(1)


def of_different_classes(labels: Tensor, count: int) -> list[int]:
    """Return the positions of `count` images in order: the first of each class, then any others."""
    first: dict[int, int] = {}
    for position, label in enumerate(labels.tolist()):
        first.setdefault(label, position)
    chosen = sorted(first.values())[:count]
    others = (position for position in range(len(labels)) if position not in chosen)
    return sorted([*chosen, *(p for p, _ in zip(others, range(count - len(chosen)), strict=False))])
