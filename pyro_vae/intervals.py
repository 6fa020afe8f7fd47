"""A mean over images with its uncertainty."""

import numpy as np


def mean_interval(values: np.ndarray) -> dict:
    """The mean of `values`, `(B,)`, and its 95% interval over the choice of the B images.

    Of differences between two scores of the same images this is the paired interval. A single
    image says nothing of others: its interval is infinite.
    """
    mean = float(values.mean())
    se = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.inf
    return {"mean": mean, "ci95": [mean - 1.96 * se, mean + 1.96 * se], "images": len(values)}
