"""Pareto k-hat of importance weights by ArviZ, and the rule by which an estimate is trusted."""

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import InputError, check_counts, checked, describe

try:
    from arviz_stats.base import array_stats

    PACKAGE = "arviz-stats"
    SIGN = -1  # of what psislw takes: log likelihoods, whose negatives are the log weights
    psislw = array_stats.psislw
except ImportError:  # ArviZ 0.2x, the newest below Python 3.12
    PACKAGE = "arviz"
    SIGN = 1  # log weights
    with warnings.catch_warnings():
        # it announces its 1.0 whenever it is imported
        announcement = r"\s*ArviZ is undergoing a major refactor"
        warnings.filterwarnings("ignore", announcement, FutureWarning)
        from arviz import psislw

LOG_TINY = math.log(np.finfo(float).tiny)  # of the smallest weight beside one of 1
ROUNDING = 1e-10  # log weights no further apart count as equal


@checked
def pareto_khat(log_w: Tensor | np.ndarray) -> np.ndarray:
    """Return Pareto k-hat of each image, `(B,)`, from log weights `(K, B)`.

    A generalised Pareto distribution is fitted to the largest min(K / 5, 3 sqrt(K)) weights. Its
    shape k tells which moments the weights have: those of order below 1/k. k-hat is +inf where the
    tail has fewer than six weights (always for K < 26), and where all weights are zero: nothing
    supports the estimate. It is -inf where all weights are equal but for rounding, as under a
    perfect proposal.

    Of a discrete latent the weights may have few values, and the tail would begin with equal
    weights. These are spread evenly over the interval down to the next lower value, which keeps
    their order and their bound.

    >>> import numpy as np
    >>> from pyro_vae import pareto_khat
    >>> log_w = np.random.default_rng(0).exponential([0.2, 1.2], size=(1000, 2))
    >>> pareto_khat(log_w) < 0.7  # the weights have Pareto tails of shapes 0.2 and 1.2
    array([ True, False])

    References:
        Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, JMLR 25.
    """
    weights = check_log_weights(log_w).detach().cpu().double().numpy().T
    highest, lowest = weights.max(axis=1, keepdims=True), weights.min(axis=1, keepdims=True)
    khat = np.full((len(weights), 1), np.inf)
    num_samples = weights.shape[1]
    if num_samples > 25:
        with np.errstate(invalid="ignore"):  # all weights are zero: NaN, of which there is no tail
            ordered = np.sort(weights - highest, axis=1)
        ordered[ordered <= LOG_TINY] = -np.inf
        tail = math.ceil(min(num_samples / 5, 3 * math.sqrt(num_samples)))
        _spread_ties(ordered, tail)
        khat[:, 0] = _fit_tails(ordered[:, -tail - 1 :])
    constant = np.isclose(highest, lowest, rtol=1e-12, atol=1e-4) & np.isfinite(highest)
    constant &= num_samples > 1
    return np.where(constant, -np.inf, khat)[:, 0]


def _spread_ties(log_w: np.ndarray, tail: int) -> None:
    """Spread equal weights in place, in each row of `log_w`, `(B, K)`, whose tail starts with some.

    The rows ascend. n weights that equal w, with v the next lower value, or 0, become
    w - (w - v) i / n, i = n - 1 to 0.
    """
    begins_in_ties = log_w[:, -tail] <= log_w[:, -tail - 1] + ROUNDING
    begins_in_ties |= log_w[:, _quarter(tail) - tail] <= log_w[:, -tail] + ROUNDING
    for row in np.flatnonzero(begins_in_ties):
        _, first, member, counts = np.unique(
            log_w[row].round(10), return_index=True, return_inverse=True, return_counts=True
        )
        if len(first) == 1:
            continue
        w = np.exp(log_w[row, first])
        below = np.append(0, w[:-1])
        i = (first + counts - 1)[member] - np.arange(len(member))
        with np.errstate(divide="ignore"):
            log_w[row] = np.sort(np.log(w[member] - (w - below)[member] * i / counts[member]))


def _fit_tails(log_w: np.ndarray) -> np.ndarray:
    """Return k-hat, `(B,)`, from the log of the tail's weights, `(B, 1 + tail)`, ascending.

    The first is not in the tail: it is the threshold. The largest weight is 1. k-hat is +inf where
    fewer than six weights are above the threshold, and where the lowest quarter of those is equal.

    ArviZ rounds the length of a tail up in some versions and down in others. It is given as many
    copies of the threshold as make these weights the tail in all of them.
    """
    log_w = np.maximum(log_w, LOG_TINY)
    weights = np.exp(log_w) - np.exp(log_w[:, :1])
    tails = (log_w > log_w[:, :1]).sum(axis=1)  # of each row, how many are above the threshold
    khat = np.full(len(log_w), np.inf)
    for tail in np.unique(tails[tails > 5]):
        varied = weights[:, -tail] < weights[:, _quarter(tail) - tail]
        rows = np.flatnonzero((tails == tail) & varied)
        sample = np.repeat(log_w[rows, :1], max(5 * tail, math.ceil(tail**2 / 9)), axis=1)
        sample[:, -tail:] = log_w[rows, -tail:]
        with np.errstate(all="ignore"):  # a tail without spread: its NaN is replaced below
            khat[rows] = psislw(SIGN * sample)[1]
    return np.where(np.isfinite(khat), khat, np.inf)


def _quarter(tail: int) -> int:
    """Return the place, from 0, of the quantile to which the fit scales a tail."""
    return int(tail / 4 + 0.5) - 1


def check_log_weights(log_w: Tensor | np.ndarray) -> Tensor:
    """Return `log_w` as a tensor; raise InputError unless it holds log weights `(K, B)`.

    There must be at least one sample and one image. -inf is the log of a weight of zero.
    """
    if isinstance(log_w, np.ndarray) and log_w.dtype.kind == "f":
        # torch takes neither read-only arrays (JAX's) nor floats of over 8 bytes
        log_w = torch.from_numpy(np.require(log_w, f"f{min(log_w.itemsize, 8)}", ["C", "W"]))
    tensor = isinstance(log_w, Tensor) and log_w.is_floating_point()
    if not tensor or log_w.dim() != 2 or log_w.numel() == 0:
        raise InputError(f"log_w must be floats (K, B), K and B >= 1, not {describe(log_w)}")
    if not (log_w < math.inf).all():  # false for NaN too
        raise InputError(
            "log_w must not hold NaN or +inf: check the model, the guide, and that grey levels are "
            "in [0, 1]"
        )
    return log_w


@checked
def passes(khat: np.ndarray, num_samples: int | np.ndarray) -> np.ndarray:
    """Return whether each k-hat is at most `khat_threshold(num_samples)`: trust that estimate.

    Where the number of samples differs, `num_samples` has that of each.
    """
    if khat.dtype.kind != "f":
        raise InputError(f"khat must be floats, not {describe(khat)}")
    if isinstance(num_samples, np.ndarray):
        whole = num_samples.shape == khat.shape and num_samples.dtype.kind in "iu"
        if not whole:
            raise InputError(
                f"num_samples must be one whole number for each k-hat, not {describe(num_samples)}"
            )
    counts, which = np.unique(num_samples, return_inverse=True)
    thresholds = np.array([khat_threshold(int(count)) for count in counts])
    return khat <= thresholds[which].reshape(np.shape(num_samples))


@checked
def khat_threshold(num_samples: int) -> float:
    """Return the largest k-hat at which K samples can be trusted: min(1 - 1 / log10 K, 0.7).

    It is 0.5 at K = 100, 0.67 at K = 1000 and -inf at K = 1 (Vehtari et al. 2024, section 3.2).
    """
    check_counts(num_samples=num_samples)
    return min(1 - 1 / math.log10(num_samples), 0.7) if num_samples > 1 else -math.inf
