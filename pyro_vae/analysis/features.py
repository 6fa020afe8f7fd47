"""Features of a digit's image that might make it likely or unlikely.

All functions take images `(B, 1, 28, 28)` in [0, 1] and return a value for each, `(B,)`, float64.
Lengths are in pixels. The stroke is the set of pixels that are at least one half.
"""

import numpy as np
import torch
from scipy import ndimage
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional

from pyro_vae.data.images import check_images
from pyro_vae.errors import checked

CENTRE = 13.5  # row and column of the middle of an image


def on_cpu(x: Tensor) -> Tensor:
    """Check the images `x`; return them on the CPU, where NumPy and SciPy can read them."""
    return check_images(x).detach().cpu()


@checked
def ink(x: Tensor) -> np.ndarray:
    """Return the sum of the grey levels, in white pixels."""
    x = on_cpu(x)
    return x.sum((1, 2, 3)).double().numpy()


@checked
def entropy_floor(x: Tensor) -> np.ndarray:
    """Return the sum of the pixels' binary entropies, nats: minus the best possible grey score.

    A pixel x adds -x log x - (1 - x) log(1 - x): log 2 at x = 1/2, nothing at black and white.
    """
    x = on_cpu(x)
    x = x.double()
    return -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).sum((1, 2, 3)).numpy()


@checked
def grey_pixels(x: Tensor) -> np.ndarray:
    """Count the pixels between 0.1 and 0.9: neither nearly black nor nearly white."""
    x = on_cpu(x)
    return ((x > 0.1) & (x < 0.9)).sum((1, 2, 3)).double().numpy()


@checked
def stroke_width(x: Tensor) -> np.ndarray:
    """Return the mean width of the stroke along its middle, to an eighth of a pixel; 0 without one.

    The middle is where the distance to the background is largest. It is sought at four times the
    resolution, because most strokes are 2 to 4 pixels wide.
    """
    x = on_cpu(x)
    fine = [
        functional.interpolate(part, scale_factor=4, mode="bilinear")[:, 0].numpy() >= 0.5
        for part in x.split(500)
    ]
    return np.array([_stroke_width(stroke) for part in fine for stroke in part])


def _stroke_width(stroke: np.ndarray) -> float:
    distance = ndimage.distance_transform_edt(np.pad(stroke, 1))
    middle = (distance == ndimage.maximum_filter(distance, 3)) & (distance > 0)
    # n pixels across have n / 2 (n even) or (n + 1) / 2 (n odd) as their largest distance
    return (2 * float(distance[middle].mean()) - 0.5) / 4 if middle.any() else 0.0


@checked
def slant(x: Tensor) -> np.ndarray:
    """Return how many columns the ink leans to the right per row up: the slope of a regression."""
    x = on_cpu(x)
    row, column = centre(x)
    pixels = x[:, 0].double().numpy()
    down = np.arange(28.0) - row[:, None]  # (B, 28)
    right = np.arange(28.0) - column[:, None]
    spread = np.einsum("bij,bi->b", pixels, down**2)
    covariance = -np.einsum("bij,bi,bj->b", pixels, down, right)
    return np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 1e-9)


@checked
def height(x: Tensor) -> np.ndarray:
    """Return the stroke's height: rows from the first that it touches to the last."""
    x = on_cpu(x)
    return np.array([_extent(stroke.any(1)) for stroke in _strokes(x)])


@checked
def width(x: Tensor) -> np.ndarray:
    """Return the stroke's width: columns from the first that it touches to the last."""
    x = on_cpu(x)
    return np.array([_extent(stroke.any(0)) for stroke in _strokes(x)])


@checked
def holes(x: Tensor) -> np.ndarray:
    """Count the regions of background that the stroke encloses; diagonal neighbours close a gap."""
    x = on_cpu(x)
    return np.array([float(ndimage.label(~np.pad(stroke, 1))[1] - 1) for stroke in _strokes(x)])


@checked
def off_centre(x: Tensor) -> np.ndarray:
    """Return the distance of the centre of the ink from the middle of the image."""
    x = on_cpu(x)
    row, column = centre(x)
    return np.hypot(row - CENTRE, column - CENTRE)


# Features of the image alone, by their names in tables and figures.
FEATURES = {
    "ink": ink,
    "entropy floor": entropy_floor,
    "grey pixels": grey_pixels,
    "stroke width": stroke_width,
    "slant": slant,
    "height": height,
    "width": width,
    "holes": holes,
    "off centre": off_centre,
}


@checked
def nearest_distance(x: Tensor, references: Tensor) -> np.ndarray:
    """Return the Euclidean distance, in pixel space, to the nearest of the images `references`."""
    x = on_cpu(x)
    references = on_cpu(references)
    search = NearestNeighbors(n_neighbors=1, algorithm="brute")
    search.fit(references.flatten(1).numpy())
    return search.kneighbors(x.flatten(1).numpy())[0][:, 0].astype(np.float64)


@checked
def centre(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the centre of the ink; without ink, of the image's middle."""
    x = on_cpu(x)
    pixels = x[:, 0].double().numpy()
    grid = np.arange(28.0)
    mass = pixels.sum((1, 2))
    middle = np.full_like(mass, CENTRE)
    row = np.divide(pixels.sum(2) @ grid, mass, out=middle.copy(), where=mass > 0)
    column = np.divide(pixels.sum(1) @ grid, mass, out=middle, where=mass > 0)
    return row, column


def _strokes(x: Tensor) -> np.ndarray:
    return (x[:, 0] >= 0.5).numpy()


def _extent(touched: np.ndarray) -> float:
    where = np.flatnonzero(touched)
    return float(where[-1] - where[0] + 1) if len(where) else 0.0
