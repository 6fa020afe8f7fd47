"""What is taken for images: shape, type and grey levels."""

import torch
from pyro.util import ignore_jit_warnings
from torch import Tensor

from pyro_vae.errors import InputError, checked, describe


@checked
@ignore_jit_warnings()
def check_images(images: Tensor) -> Tensor:
    """Return `images`; raise InputError unless they are `(B, 1, 28, 28)` floats in [0, 1]."""
    _check_dtype(images)
    if images.dim() != 4 or images.shape[1:] != (1, 28, 28) or images.shape[0] == 0:
        raise InputError(f"images must have shape (B, 1, 28, 28), B >= 1, not {describe(images)}")
    check_grey_levels(images)
    return images


@checked
@ignore_jit_warnings()
def check_image_rows(images: Tensor) -> None:
    """Raise InputError unless `images` are floats `(B, ...)` of any shape and any value."""
    _check_dtype(images)
    if images.dim() == 0 or images.shape[0] == 0:
        raise InputError(f"images must have shape (B, ...), B >= 1, not {describe(images)}")


@ignore_jit_warnings()
def check_grey_levels(images: Tensor) -> None:
    """Raise InputError unless all pixels are in [0, 1]; for at least one image."""
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise InputError(
            f"images must have pixels in [0, 1] without NaN, not in [{low:g}, {high:g}]: "
            "divide grey levels by their maximum"
        )


def _check_dtype(images: Tensor) -> None:
    if images.dtype not in (torch.float32, torch.float64):
        raise InputError(f"images must be float32 or float64, not {describe(images)}")
