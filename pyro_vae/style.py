"""Whether a style is one style: do the ten digits drawn from it share their features?"""

import numpy as np

from pyro_vae.errors import InputError, check_counts


def shared_correlation(values: np.ndarray) -> float:
    """The mean correlation, over pairs of digits, of a feature across styles.

    Args:
        values: the feature of the image f(e_i, y) of style e_i, `(styles, digits)`.

    Each digit's values are compared with another's in the same styles, so that what is typical of a
    digit plays no part: 1 where a style moves all digits alike, 0 in expectation where the styles
    of different digits have nothing to do with each other. A digit whose feature never moves has
    no correlation and is left out.
    """
    if values.ndim != 2 or min(values.shape) < 2:
        raise InputError(f"values must be (styles, digits), 2 of each at least: {values.shape}")
    moving = values[:, values.std(0) > 1e-12]
    if moving.shape[1] < 2:
        return float("nan")
    correlation = np.corrcoef(moving, rowvar=False)
    return float(correlation[np.triu_indices(len(correlation), 1)].mean())


def shared_interval(values: np.ndarray, resamples: int = 200, seed: int = 0) -> list[float]:
    """The 95% bootstrap interval of `shared_correlation`, over styles."""
    check_counts(resamples=resamples)
    random = np.random.default_rng(seed)
    again = [
        shared_correlation(values[random.integers(len(values), size=len(values))])
        for _ in range(resamples)
    ]
    return np.quantile(again, [0.025, 0.975]).tolist()


def shuffled(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """`values`, `(styles, digits)`, with the styles of each digit in an order of its own."""
    return np.random.default_rng(seed).permuted(values, axis=0)
