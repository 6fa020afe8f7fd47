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
def check_grey_levels(images: Tensor, name: str = "") -> None:
    """Raise InputError unless all pixels are in [0, 1]; for at least one image.

    With the `name` of the argument that holds all images, the message names the first wrong one.
    """
    low, high = images.aminmax()
    if low >= 0 and high <= 1:  # false for NaN
        return
    levels = f"[{low:g}, {high:g}]"
    if name:
        raise InputError(
            f"{name}: {_first_of(~((images >= 0) & (images <= 1)), 'has pixels outside [0, 1]')}: "
            f"they must be in [0, 1], not in {levels}: divide grey levels by their maximum"
        )
    raise InputError(
        f"images must have pixels in [0, 1] without NaN, not in {levels}: "
        "divide grey levels by their maximum"
    )


def check_finite(images: Tensor, name: str = "x", where: str = "") -> None:
    """Raise InputError if a pixel is NaN or infinite: name the first such image, and count them.

    `name` is that of the argument that holds them all; `where` says which pixels count.
    """
    if images.sum().isfinite():  # a fifth of the time that looking at each pixel takes
        return
    wrong = ~images.isfinite()
    if wrong.any():  # else the sum alone was too large
        first = images[wrong.reshape(len(wrong), -1).any(1)][0]
        what = "NaN" if first.isnan().any() else "an infinite number"
        raise InputError(
            f"{name}: {_first_of(wrong, f'holds {what}{where}')}: leave out such images, or score "
            "the pixels that are known, by log_likelihood(..., mask=known)"
        )


def check_whole(model: object, images: Tensor, name: str = "x") -> None:
    """Raise InputError if the model cannot take all of the images; name the first such image.

    No program takes NaN or infinity. A `Model` whose pixels are in [0, 1] takes no others.
    """
    check_finite(images, name)
    if getattr(model, "on_unit_interval", False) and images.is_floating_point():
        check_grey_levels(images, name)


def _first_of(wrong: Tensor, what: str) -> str:
    """Say which image is the first with a wrong pixel, `what` it does, and how many do."""
    rows = wrong.reshape(len(wrong), -1).any(1).nonzero().flatten().tolist()
    number = f"; {len(rows)} images do" if len(rows) > 1 else ""
    return f"image {rows[0]} of {len(wrong)} {what} (counted from 0{number})"


def _check_dtype(images: Tensor) -> None:
    if images.dtype not in (torch.float32, torch.float64):
        raise InputError(f"images must be float32 or float64, not {describe(images)}")
