"""A mean over images with its uncertainty."""

import numpy as np
from scipy import stats

from pyro_vae.errors import InputError


def mean_interval(values: np.ndarray) -> dict:
    """The mean of `values`, `(B,)`, and its 95% interval over the choice of the B images.

    By Student's t, so that it holds for few images too. Of differences between two scores of the
    same images this is the paired interval. A single image says nothing of others: its interval is
    infinite.
    """
    if values.ndim != 1 or len(values) == 0:
        raise InputError(f"values must be (B,), B >= 1, not {values.shape}")
    mean = float(values.mean())
    half = np.inf
    if len(values) > 1:
        quantile = stats.t.ppf(0.975, len(values) - 1)
        half = float(quantile * values.std(ddof=1) / np.sqrt(len(values)))
    return {"mean": mean, "ci95": [mean - half, mean + half], "images": len(values)}
