"""Means and proportions over images with their uncertainty; two classifications compared."""

import numpy as np
from scipy import stats

from pyro_vae.errors import InputError, check_numbers, checked, describe


@checked
def mean_interval(values: np.ndarray) -> dict:
    """Return the mean of `values`, `(B,)`, and its 95% interval over the choice of the B images.

    The interval is Student's t, so it holds for few images too. For differences between two scores
    of the same images it is the paired interval. For one image, or infinite values, the interval is
    infinite.
    """
    _check_numbers("B", values=values)
    mean, low, high = float(values.mean()), -np.inf, np.inf
    if len(values) > 1 and np.isfinite(mean):
        quantile = stats.t.ppf(0.975, len(values) - 1)
        half = float(quantile * values.std(ddof=1) / np.sqrt(len(values)))
        low, high = mean - half, mean + half
    return {"mean": mean, "ci95": [low, high], "images": len(values)}


@checked
def standard_error_of_mean(se: np.ndarray, other_se: np.ndarray | None = None) -> float:
    """Return the Monte Carlo standard error of a mean over B images: sqrt(sum_b se_b^2) / B.

    `se`, `(B,)`, holds the standard error of each image's value; errors of different images are
    independent. For a mean of differences, `other_se` holds those of the values subtracted.
    """
    check_numbers("B", se=se)
    variances = np.square(se)
    if other_se is not None:
        check_numbers("B", other_se=other_se)
        if other_se.shape != se.shape:
            raise InputError(f"other_se must be as long as se, {len(se)}, not {len(other_se)}")
        variances = variances + np.square(other_se)
    return float(np.sqrt(variances.sum()) / len(se))


@checked
def proportion_interval(right: np.ndarray) -> dict:
    """Return the proportion of true values in `right`, `(B,)`, and its 95% interval.

    Wilson's interval (Wilson 1927): it never leaves [0, 1], and has a width even where all are
    true, both unlike the normal interval.
    """
    _check_truths(right=right)
    result = stats.binomtest(int(right.sum()), len(right))
    low, high = result.proportion_ci(0.95, method="wilson")
    return {"mean": float(right.mean()), "ci95": [float(low), float(high)], "images": len(right)}


@checked
def mcnemar(before: np.ndarray, after: np.ndarray) -> dict:
    """Compare two classifications of the same images, each right or wrong, `(B,)` booleans.

    Returns how many images `after` mends and spoils, the difference of the two accuracies with its
    95% interval, and the p-value of McNemar's exact test: the probability that the images that
    change would split at least as unevenly if either direction were equally likely.
    """
    _check_truths(before=before, after=after)
    if before.shape != after.shape:
        raise InputError(f"after must be as long as before, {len(before)}, not {len(after)}")
    mended, spoilt = int((after & ~before).sum()), int((before & ~after).sum())
    difference = mean_interval(after.astype(float) - before.astype(float))
    p_value = stats.binomtest(mended, mended + spoilt).pvalue if mended + spoilt else 1.0
    return {"mended": mended, "spoilt": spoilt, "difference": difference, "p_value": p_value}


@checked
def welch_interval(a: np.ndarray, b: np.ndarray) -> dict:
    """Return the mean of `a`, `(N,)`, minus that of `b`, `(M,)`, and its 95% interval (Welch's t).

    For values that are not paired: of different images, or of independent trainings.
    """
    _check_numbers("N", a=a, b=b)
    mean = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2 or not np.isfinite(mean):
        return {"mean": mean, "ci95": [-np.inf, np.inf]}
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return {"mean": mean, "ci95": [float(low), float(high)]}


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
