"""What networks are given: images, latents and labels of the right shape and type."""

import torch
from pyro.util import ignore_jit_warnings
from torch import Tensor

from pyro_vae.data.images import check_images
from pyro_vae.errors import InputError, describe


def check_pixels(x: Tensor, weight: Tensor) -> None:
    """Raise InputError unless `x`, `(*, 1, 28, 28)`, holds images of the dtype of `weight`."""
    # (5, 28, 28) is said to be that, and not (1, 5, 28, 28)
    deep = isinstance(x, Tensor) and (x.dim() > 3 or x.shape[:-2] == (1,))
    check_images(x.reshape(-1, *x.shape[-3:]) if deep else x)
    if x.dtype != weight.dtype:
        raise InputError(
            f"images are {describe(x)} and the weights {describe(weight)}: convert one of them"
        )


@ignore_jit_warnings()
def check_latents(z: Tensor, latent_dim: int, weight: Tensor) -> None:
    """Raise InputError unless `z` has `latent_dim` dimensions and the dtype of `weight`."""
    if not isinstance(z, Tensor) or not z.is_floating_point():
        raise InputError(f"z must be a float tensor (*, {latent_dim}), not {describe(z)}")
    if z.dim() == 0 or z.shape[-1] != latent_dim:
        raise InputError(f"z must have shape (*, {latent_dim}), not {tuple(z.shape)}")
    if z.dtype != weight.dtype:
        raise InputError(
            f"z is {describe(z)} and the weights {describe(weight)}: convert one of them, "
            "or the images"
        )


@ignore_jit_warnings()
def check_labels(taker: str, num_classes: int, images: int, *labels: Tensor) -> None:
    """Raise InputError unless `labels` is one y, `(images,)`, or nothing where `num_classes` is 0.

    `taker` is what a message calls the network or prior that takes them.
    """
    if len(labels) != (num_classes > 0):
        if not num_classes:
            raise InputError(f"{taker} takes no labels: leave them out")
        raise InputError(
            f"{taker} takes labels y of {num_classes} classes: give them once, after the images, "
            "the latents or their number"
        )
    for y in labels:
        if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != (images,):
            one_hot = isinstance(y, Tensor) and y.shape == (images, num_classes)
            remedy = "y.argmax(1)" if one_hot else "y.long()"
            raise InputError(
                f"y must be one int64 label for each of {images} images, not {describe(y)}: "
                f"convert it by {remedy}"
            )
        if y.min() < 0 or y.max() >= num_classes:
            raise InputError(f"y must hold labels from 0 to {num_classes - 1}")
