"""How near a set of generated images is to a set of real ones, in a space of features.

All functions take features `(N, F)` and `(M, F)`, one row per image. Their values depend on N, M
and the features. Compare them with the same measure of a second set of real images.
"""

import numpy as np
from scipy import linalg
from scipy.spatial import distance

from pyro_vae.errors import InputError, check_counts, check_table, checked


@checked
def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Return |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), from the sets' means m and covariances C.

    This is the squared 2-Wasserstein distance of the Gaussians with these moments (Heusel et al.
    2017, GANs trained by a two time-scale update rule, eq. 6). It is positive even for two sets
    from one distribution, more so for small sets.
    """
    _check(real, generated)
    c, d = (np.atleast_2d(np.cov(images, rowvar=False)) for images in (real, generated))
    squared = np.square(real.mean(0) - generated.mean(0)).sum()
    # C C' has the eigenvalues of the symmetric C^(1/2) C' C^(1/2), which are safe to compute even
    # where a constant feature makes C singular
    values, vectors = linalg.eigh(c)
    half = vectors * np.sqrt(values.clip(0)) @ vectors.T
    root = np.sqrt(linalg.eigvalsh(half @ d @ half).clip(0)).sum()
    return float(squared + np.trace(c) + np.trace(d) - 2 * root)


@checked
def precision_recall(
    real: np.ndarray, generated: np.ndarray, neighbours: int = 3
) -> tuple[float, float]:
    """Return precision, the share of generated images among the real, and recall, the reverse.

    An image is among those of a set if it lies in the ball of one of them: no further from it than
    its `neighbours`-th nearest neighbour in the set (Kynkaanniemi et al. 2019, Improved precision
    and recall metric for assessing generative models, eq. 1 and 2). A single image far from its set
    has a large ball: precision hangs on which real images are taken (see `density_coverage`).
    """
    _check(real, generated)
    _check_neighbours(neighbours, min(len(real), len(generated)))
    in_real = _in_balls(generated, real, neighbours)
    return float(in_real.any(1).mean()), float(_in_balls(real, generated, neighbours).any(1).mean())


@checked
def density_coverage(
    real: np.ndarray, generated: np.ndarray, neighbours: int = 5
) -> tuple[float, float]:
    """Return density, how many real images' balls hold a generated one, and coverage.

    Density is the mean number over the generated images, as a share of `neighbours`; coverage is
    the share of the real images whose ball holds a generated one (Naeem et al. 2020, Reliable
    fidelity and diversity metrics for generative models, eq. 3 and 4). For sets of equal size from
    one distribution they are about 1 and 1 - 2^-neighbours. The balls are of real images alone, and
    a large one counts once: both vary less with the set of real images than precision and recall.
    """
    _check(real, generated)
    _check_neighbours(neighbours, len(real))
    inside = _in_balls(generated, real, neighbours)
    return float(inside.sum(1).mean() / neighbours), float(inside.any(0).mean())


def _in_balls(images: np.ndarray, others: np.ndarray, neighbours: int) -> np.ndarray:
    """Whether image n lies in the ball of other m, `(N, M)`."""
    radius = np.sort(distance.cdist(others, others), 1)[:, neighbours]  # [:, 0] is itself
    return distance.cdist(images, others) <= radius


def _check(real: np.ndarray, generated: np.ndarray) -> None:
    for name, features in (("real", real), ("generated", generated)):
        check_table(**{name: features})
        if len(features) < 2:
            raise InputError(f"{name} must hold features of at least 2 images")
        if np.abs(features).max() > 1e100:
            raise InputError(
                f"{name} must hold features of 1e100 at most: their squares are needed"
            )
    if real.shape[1] != generated.shape[1]:
        raise InputError(
            f"real and generated must have the same features, not {real.shape[1]} and "
            f"{generated.shape[1]}"
        )


def _check_neighbours(neighbours: int, images: int) -> None:
    check_counts(neighbours=neighbours)
    if neighbours >= images:
        raise InputError(f"neighbours must be below the number of images, not {neighbours}")
