"""Pareto k-hat of importance weights, by ArviZ: the one module that imports it."""

import math
import warnings

import numpy as np
from torch import Tensor

from pyro_vae.errors import InputError, check_counts, checked, describe

with warnings.catch_warnings():
    # arviz 0.2x announces its 1.0 whenever it is imported
    warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
    from arviz import psislw


@checked
def pareto_khat(log_w: Tensor) -> np.ndarray:
    """k-hat of each image, shape `(B,)`, from log weights, shape `(K, B)`.

    A generalised Pareto distribution is fitted to the largest min(K / 5, 3 sqrt(K)) weights; its
    shape k says how many moments the weights have (fewer than 1/k). +inf where fewer than five
    weights stand out to be fitted, so for every K < 21: nothing is then known in the estimate's
    favour; and where all weights are zero. Weights that are all equal, as under a perfect proposal,
    have no tail: -inf.

    References:
        Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, JMLR 25.
    """
    check_log_weights(log_w)
    weights = log_w.detach().double().cpu().numpy().T.copy()
    num_samples = weights.shape[1]
    highest, lowest = weights.max(axis=1), weights.min(axis=1)
    khat = np.full(len(weights), np.inf)
    if num_samples > 20:
        with np.errstate(all="ignore"):  # a tail without spread: the void fit is replaced below
            khat = np.asarray(psislw(weights)[1])
    constant = np.isclose(highest, lowest, rtol=1e-12, atol=1e-12) & np.isfinite(highest)
    constant &= num_samples > 1
    return np.where(constant, -np.inf, np.where(np.isfinite(khat), khat, np.inf))


def check_log_weights(log_w: Tensor) -> None:
    """Raise InputError unless these are log weights `(K, B)` of a sample and an image or more.

    -inf is one, that of a sample with a weight of zero.
    """
    if log_w.dim() != 2 or log_w.numel() == 0 or not log_w.is_floating_point():
        raise InputError(f"log_w must be floats (K, B), K and B >= 1, not {describe(log_w)}")
    if not (log_w < math.inf).all():  # NaN is not either
        raise InputError("log_w must not hold NaN or +inf: check the model and the guide")


@checked
def khat_threshold(num_samples: int) -> float:
    """The largest k-hat at which K samples give a trustworthy estimate: min(1 - 1/log10 K, 0.7).

    0.5 at K = 100, 0.67 at K = 1000; -inf at K = 1. Vehtari et al. (2024), section 3.2.
    """
    check_counts(num_samples=num_samples)
    return min(1 - 1 / math.log10(num_samples), 0.7) if num_samples > 1 else -math.inf
