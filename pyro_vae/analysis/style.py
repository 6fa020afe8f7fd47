"""Whether a style is one style: do the ten digits drawn from it share their features?"""

import numpy as np
from scipy import stats

from pyro_vae.errors import (
    InputError,
    check_classes,
    check_counts,
    check_seed,
    check_table,
    checked,
)


@checked
def shared_correlation(values: np.ndarray) -> float:
    """The mean correlation, over pairs of digits, of a feature across styles.

    Args:
        values: the feature of the image f(e_i, y) of style e_i, `(styles, digits)`.

    Each digit's values are compared with another's in the same styles, so that what is typical of a
    digit plays no part: 1 where a style moves all digits alike, 0 in expectation where the styles
    of different digits have nothing to do with each other. A digit whose feature never moves has
    no correlation and is left out.
    """
    check_table(values=values)
    if min(values.shape) < 2:
        raise InputError(f"values must be (styles, digits), 2 of each at least: {values.shape}")
    moving = values[:, values.std(0) > 1e-12]
    if moving.shape[1] < 2:
        return float("nan")
    correlation = np.corrcoef(moving, rowvar=False)
    return float(correlation[np.triu_indices(len(correlation), 1)].mean())


@checked
def shared_interval(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> list[float]:
    """The 95% bootstrap interval of `shared_correlation`, over styles."""
    check_counts(resamples=resamples)
    check_seed(seed)
    check_table(values=values)
    rng = np.random.default_rng(seed)
    again = [
        shared_correlation(values[rng.integers(len(values), size=len(values))])
        for _ in range(resamples)
    ]
    return np.quantile(again, [0.025, 0.975]).tolist()


@checked
def shuffled(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """`values`, `(styles, digits)`, with the styles of each digit in an order of its own."""
    check_seed(seed)
    check_table(values=values)
    return np.random.default_rng(seed).permuted(values, axis=0)


@checked
def style_correlation(own: np.ndarray, drawn: np.ndarray, labels: np.ndarray) -> dict:
    """How a feature of real images correlates with that of other digits drawn in their styles.

    Args:
        own: the feature of each image, `(B,)`.
        drawn: that of each digit in the style of each image, `(B, digits)`.
        labels: each image's own digit, `(B,)`, whose column of `drawn` is left out.

    The correlation is with the mean over the other digits; what is typical of a digit is taken off
    both. With its 95% interval (Fisher's z). NaN where the feature never moves.
    """
    check_table(drawn=drawn)
    images, digits = drawn.shape
    if not own.shape == labels.shape == (images,) or images < 2 or digits < 2:
        raise InputError(
            f"own, drawn and labels must be (B,), (B, digits) and (B,), 2 of each at least, "
            f"not {own.shape}, {drawn.shape} and {labels.shape}"
        )
    check_table(own=own[:, None])
    check_classes(images, digits, labels=labels)
    own = own.astype(float)
    for digit in np.unique(labels):
        own[labels == digit] -= own[labels == digit].mean()
    others = np.arange(drawn.shape[1]) != labels[:, None]
    moved = ((drawn - drawn.mean(0)) * others).sum(1) / others.sum(1)
    if min(own.std(), moved.std()) < 1e-12:
        return {"correlation": float("nan"), "ci95": [float("nan")] * 2}
    found = stats.pearsonr(own, moved)
    low, high = found.confidence_interval(0.95)
    return {"correlation": float(found.statistic), "ci95": [float(low), float(high)]}
