"""Whether a style is shared: do the ten digits drawn from one style have features in common?"""

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
    """Return the correlation of a feature across styles, averaged over pairs of digits.

    Args:
        values: the feature of the image f(e_i, y) of style e_i and digit y, `(styles, digits)`.

    It is 1 where a style changes all digits alike, and 0 in expectation where the styles of
    different digits are independent. What is typical of a digit plays no part. A digit whose
    feature is constant is left out.
    """
    check_table(values=values)
    if min(values.shape) < 2:
        raise InputError(f"values must be (styles, digits), 2 of each at least, not {values.shape}")
    varying = values[:, values.std(0) > 1e-12]
    if varying.shape[1] < 2:
        return float("nan")
    correlation = np.corrcoef(varying, rowvar=False)
    return float(correlation[np.triu_indices(len(correlation), 1)].mean())


@checked
def shared_interval(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> list[float]:
    """Return the 95% bootstrap interval of `shared_correlation` over styles."""
    check_counts(resamples=resamples)
    check_seed(seed)
    check_table(values=values)
    rng = np.random.default_rng(seed)
    resampled = [
        shared_correlation(values[rng.integers(len(values), size=len(values))])
        for _ in range(resamples)
    ]
    return np.quantile(resampled, [0.025, 0.975]).tolist()


@checked
def shuffled(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Permute the styles of each digit independently: `values` is `(styles, digits)`."""
    check_seed(seed)
    check_table(values=values)
    return np.random.default_rng(seed).permuted(values, axis=0)


@checked
def style_correlation(real: np.ndarray, drawn: np.ndarray, labels: np.ndarray) -> dict:
    """Correlate a feature of real images with that of other digits drawn in their styles.

    Args:
        real: the feature of each real image, `(B,)`.
        drawn: the feature of each digit drawn in each image's style, `(B, digits)`.
        labels: the digit of each real image, `(B,)`; its column of `drawn` is left out.

    Each image is compared with the mean over the other digits, after each digit's mean has been
    subtracted. Returns the correlation with its 95% interval (Fisher's z); NaN where the feature is
    constant.
    """
    check_table(drawn=drawn)
    images, digits = drawn.shape
    if not real.shape == labels.shape == (images,) or images < 2 or digits < 2:
        raise InputError(
            f"real, drawn and labels must be (B,), (B, digits) and (B,), 2 of each at least, "
            f"not {real.shape}, {drawn.shape} and {labels.shape}"
        )
    check_table(real=real[:, None])
    check_classes(images, digits, labels=labels)
    real = real.astype(float)
    for digit in np.unique(labels):
        real[labels == digit] -= real[labels == digit].mean()
    others = np.arange(digits) != labels[:, None]
    transferred = ((drawn - drawn.mean(0)) * others).sum(1) / others.sum(1)
    if min(real.std(), transferred.std()) < 1e-12:
        return {"correlation": float("nan"), "ci95": [float("nan")] * 2}
    result = stats.pearsonr(real, transferred)
    low, high = result.confidence_interval(0.95)
    return {"correlation": float(result.statistic), "ci95": [float(low), float(high)]}
