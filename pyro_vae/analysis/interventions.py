"""Changes to an image of one property at a time, to see which of them a score depends on.

All functions take images `(B, 1, 28, 28)` in [0, 1] and return as many of the same kind. Changes
that need positions between pixels work at four times the resolution, or by cubic splines, so the
results keep the soft edges of real images.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from pyro_vae.analysis.features import CENTRE, centre, on_cpu, slant
from pyro_vae.data.images import check_images
from pyro_vae.errors import InputError, check_number, check_seed, checked

FINE = 4  # fine pixels to a pixel, along each axis


@checked
def thicken(x: Tensor, by: float) -> Tensor:
    """Make the stroke `by` pixels wider, or thinner where `by` is negative.

    By grey dilation or erosion with a disc of diameter |by|, to the nearest half pixel (Castro et
    al. 2019, Morpho-MNIST).
    """
    x = on_cpu(x)
    check_number("by", by, -14, 14)
    radius = round(abs(by) / 2 * FINE)
    grid = np.arange(-radius, radius + 1)
    disc = grid[:, None] ** 2 + grid**2 <= radius**2
    morph = ndimage.grey_dilation if by > 0 else ndimage.grey_erosion
    fine = functional.interpolate(x, scale_factor=FINE, mode="nearest").numpy()
    changed = np.stack([morph(image, footprint=disc, mode="nearest") for image in fine[:, 0]])
    return functional.avg_pool2d(torch.from_numpy(changed)[:, None], FINE)


@checked
def shear(x: Tensor, by: float) -> Tensor:
    """Shear the image to the right by `by` columns per row up, about the centre of the ink."""
    x = on_cpu(x)
    check_number("by", by, -14, 14)
    return _shear(x, np.full(len(x), by))


@checked
def deslant(x: Tensor) -> Tensor:
    """Shear the image so that its slant is zero."""
    x = on_cpu(x)
    return _shear(x, -slant(x))


def _shear(x: Tensor, by: np.ndarray) -> Tensor:
    centre_rows, _ = centre(x)
    sheared = [
        # the pixel at (row, column) is taken from (row, column + s (row - centre))
        ndimage.affine_transform(image, [[1, 0], [s, 1]], [0, -s * row], order=3)
        for image, s, row in zip(x[:, 0].numpy(), by, centre_rows, strict=True)
    ]
    return _images(sheared)


@checked
def resize(x: Tensor, factor: float) -> Tensor:
    """Scale the digit, stroke included, by `factor` about the middle of the image."""
    x = on_cpu(x)
    check_number("factor", factor, 0.01, 100)
    scale = np.eye(2) / factor
    offset = CENTRE * (1 - 1 / factor)
    return _images(
        [ndimage.affine_transform(i, scale, [offset] * 2, order=3) for i in x[:, 0].numpy()]
    )


@checked
def blur(x: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian of standard deviation `sigma` pixels."""
    x = on_cpu(x)
    check_number("sigma", sigma, 0, 100)
    return _images([ndimage.gaussian_filter(image, sigma) for image in x[:, 0].numpy()])


@checked
def binarise(x: Tensor) -> Tensor:
    """Make each pixel black or white, whichever is nearer."""
    check_images(x)
    return (x >= 0.5).to(x)


@checked
def shift(x: Tensor, down: int, right: int) -> Tensor:
    """Move the image by whole pixels; what leaves it is lost, and black enters."""
    check_images(x)
    for name, by in (("down", down), ("right", right)):
        if abs(by) > 28:
            raise InputError(f"{name} must be a whole number from -28 to 28, not {by!r}")
    shifted = torch.zeros_like(x)
    height, width = 28 - abs(down), 28 - abs(right)
    to = (max(down, 0), max(right, 0))
    of = (max(-down, 0), max(-right, 0))
    shifted[..., to[0] : to[0] + height, to[1] : to[1] + width] = x[
        ..., of[0] : of[0] + height, of[1] : of[1] + width
    ]
    return shifted


@checked
def shuffle_pixels(x: Tensor, seed: int) -> Tensor:
    """Permute the pixels of each image at random: the same ink, no shape."""
    check_images(x)
    check_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    order = torch.rand(len(x), 28 * 28, **_like(rng)).argsort(1)
    return x.flatten(1).gather(1, order.to(x.device)).view_as(x)


@checked
def gaussian_noise(x: Tensor, level: float, rng: torch.Generator) -> Tensor:
    """Add level * N(0, 1) to each pixel and clip to [0, 1]."""
    check_images(x)
    check_number("level", level, 0, 1e3)
    return (x + level * torch.randn(x.shape, **_like(rng)).to(x)).clamp(0, 1)


@checked
def salt_and_pepper(x: Tensor, level: float, rng: torch.Generator) -> Tensor:
    """Replace each pixel, with probability `level`, by black or white at even odds."""
    check_images(x)
    check_number("level", level, 0, 1)
    replaced = torch.rand(x.shape, **_like(rng)) < level
    speck = torch.rand(x.shape, **_like(rng)) < 0.5
    return torch.where(replaced.to(x.device), speck.to(x), x)


def _like(rng: torch.Generator) -> dict:
    """Return how random numbers are made by `rng`, whatever torch makes by default."""
    return {"generator": rng, "device": rng.device, "dtype": torch.float32}


def _images(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).float().clamp(0, 1)[:, None]
