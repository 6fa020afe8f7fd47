"""Which class does an image look like? Read by nearest neighbours, if there are classes."""

from typing import NamedTuple

from torch import Tensor

from pyro_vae.analysis.judges import Judge
from pyro_vae.analysis.plots import short_name


class Reader(NamedTuple):
    """A judge of images, and what its labels are called; no judge where images have no labels."""

    judge: Judge | None
    classes: tuple[str, ...]

    def read(self, images: Tensor) -> tuple[list[int | None], list[str]]:
        """Return the label of each image, and what to write above it: "read as 5", or nothing."""
        if self.judge is None:
            return [None] * len(images), [""] * len(images)
        labels = self.judge(images).tolist()
        gap = " " if max(map(len, self.classes)) < 6 else "\n"  # on one line, or all on two
        return labels, [f"read as{gap}{short_name(self.classes[label])}" for label in labels]
