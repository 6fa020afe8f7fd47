"""Means and shares over images with their uncertainty, and two readings of the same images."""

import numpy as np
from scipy import stats

from pyro_vae.errors import InputError, check_numbers, checked, describe


@checked
def mean_interval(values: np.ndarray) -> dict:
    """The mean of `values`, `(B,)`, and its 95% interval over the choice of the B images.

    By Student's t, so that it holds for few images too. Of differences between two scores of the
    same images this is the paired interval. A single image says nothing of others, nor do values
    that are infinite: their interval is.
    """
    _check_numbers("B", values=values)
    mean, low, high = float(values.mean()), -np.inf, np.inf
    if len(values) > 1 and np.isfinite(mean):
        quantile = stats.t.ppf(0.975, len(values) - 1)
        half = float(quantile * values.std(ddof=1) / np.sqrt(len(values)))
        low, high = mean - half, mean + half
    return {"mean": mean, "ci95": [low, high], "images": len(values)}


@checked
def proportion_interval(right: np.ndarray) -> dict:
    """The share of true values in `right`, `(B,)`, and its 95% interval (Wilson 1927).

    Unlike the normal one it never leaves [0, 1], and says something where all are right.
    """
    _check_truths(right=right)
    found = stats.binomtest(int(right.sum()), len(right))
    low, high = found.proportion_ci(0.95, method="wilson")
    return {"mean": float(right.mean()), "ci95": [float(low), float(high)], "images": len(right)}


@checked
def mcnemar(before: np.ndarray, after: np.ndarray) -> dict:
    """What changes between two readings of the same images, each right or wrong, `(B,)`.

    The images mended and spoilt, the difference of the shares with its 95% interval, and the
    probability that images that change at all would split as unevenly by chance (McNemar's exact
    test).
    """
    _check_truths(before=before, after=after)
    if before.shape != after.shape:
        raise InputError(f"after must be as long as before, {len(before)}, not {len(after)}")
    mended, spoilt = int((after & ~before).sum()), int((before & ~after).sum())
    difference = mean_interval(after.astype(float) - before.astype(float))
    p_value = stats.binomtest(mended, mended + spoilt).pvalue if mended + spoilt else 1.0
    return {"mended": mended, "spoilt": spoilt, "difference": difference, "p_value": p_value}


def _check_numbers(size: str, **arrays: np.ndarray) -> None:
    check_numbers(size, **arrays)
    for name, values in arrays.items():
        if np.isnan(values).any():
            raise InputError(f"{name} must not hold NaN: leave those images out, and say so")
        if {-np.inf, np.inf} <= {values.min(), values.max()}:
            raise InputError(f"{name} must not hold both infinities: they have no mean")


def _check_truths(**arrays: np.ndarray) -> None:
    for name, values in arrays.items():
        if values.dtype != bool or values.ndim != 1 or len(values) == 0:
            raise InputError(f"{name} must be (B,) booleans, B >= 1, not {describe(values)}")


@checked
def welch_interval(one: np.ndarray, other: np.ndarray) -> dict:
    """The mean of `one` minus that of `other`, `(N,)` and `(M,)`, and its 95% interval.

    For values that are not paired: of different images, or of independent trainings (Welch's t).
    """
    _check_numbers("N", one=one, other=other)
    mean = float(one.mean() - other.mean())
    if min(len(one), len(other)) < 2 or not np.isfinite(mean):
        return {"mean": mean, "ci95": [-np.inf, np.inf]}
    low, high = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    return {"mean": mean, "ci95": [float(low), float(high)]}
