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
    remedy = "divide grey levels by their maximum"
    if name:
        wrong = ~((images >= 0) & (images <= 1))
        raise InputError(f"{name}: {_said_of(wrong, 'pixels outside [0, 1]')}: {remedy}")
    raise InputError(
        f"images must have pixels in [0, 1] without NaN, not in [{low:g}, {high:g}]: {remedy}"
    )


def check_finite(
    images: Tensor, name: str = "x", where: str = "", remedy: str = "leave out such images"
) -> None:
    """Raise InputError if a pixel is NaN or infinite: name the first such image, and count them.

    `name` is that of the argument that holds them all; `where` says which pixels count.
    """
    if images.sum().isfinite():  # a fifth of the time that looking at each pixel takes
        return
    wrong = ~images.isfinite()
    if wrong.any():  # else the sum alone was too large
        kinds = {"NaN": images.isnan(), "infinite numbers": images.isinf()}
        what = " and ".join(kind for kind, found in kinds.items() if found.any())
        raise InputError(f"{name}: {_said_of(wrong, what + where)}: {remedy}")


def check_whole(model: object, images: Tensor, name: str = "x") -> None:
    """Raise InputError if the model cannot take all of the images; name the first such image.

    No program takes NaN or infinity. A `Model` whose pixels are in [0, 1] takes no others.
    """
    remedy = "leave out such images"
    if not name.startswith(("train", "test")):
        remedy += ", or score the pixels that are known, by log_likelihood(..., mask=known)"
    check_finite(images, name, remedy=remedy)
    if getattr(model, "on_unit_interval", False) and images.is_floating_point():
        check_grey_levels(images, name)


def _said_of(wrong: Tensor, what: str) -> str:
    """Say how many images have wrong pixels, `what` these are, and which image is the first."""
    rows = wrong.reshape(len(wrong), -1).any(1).nonzero().flatten().tolist()
    have, first = ("has", "it is") if len(rows) == 1 else ("have", "the first is")
    count = f"{len(rows)} of {len(wrong)} images"
    return f"{count} {have} {what}; {first} image {rows[0]}, counted from 0"


def _check_dtype(images: Tensor) -> None:
    if images.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"images must be float32 or float64, not {describe(images)}: convert them, as by "
            "x.float(), or x.float() / 255 of grey levels from 0 to 255"
        )
