"""Pareto k-hat of importance weights by ArviZ, and the rule by which an estimate is trusted."""

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import InputError, check_counts, checked, describe

with warnings.catch_warnings():
    # arviz 0.2x announces its 1.0 whenever it is imported
    warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
    from arviz import psislw


@checked
def pareto_khat(log_w: Tensor | np.ndarray) -> np.ndarray:
    """Return Pareto k-hat of each image, `(B,)`, from log weights `(K, B)`.

    A generalised Pareto distribution is fitted to the largest min(K / 5, 3 sqrt(K)) weights. Its
    shape k tells which moments the weights have: those of order below 1/k. k-hat is +inf where the
    tail has fewer than five weights (always for K < 21), and where all weights are zero: nothing
    supports the estimate. It is -inf where all weights are equal but for rounding, as under a
    perfect proposal.

    Of a discrete latent the weights may have few values, and the tail would begin in the midst of
    equal weights. These are spread evenly over the interval down to the next lower value, which
    keeps their order and their bound.

    >>> import numpy as np
    >>> from pyro_vae import pareto_khat
    >>> log_w = np.random.default_rng(0).exponential([0.2, 1.2], size=(1000, 2))
    >>> pareto_khat(log_w) < 0.7  # the weights have Pareto tails of shapes 0.2 and 1.2
    array([ True, False])

    References:
        Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, JMLR 25.
    """
    weights = check_log_weights(log_w).detach().double().cpu().numpy().T.copy()
    num_samples = weights.shape[1]
    highest, lowest = weights.max(axis=1), weights.min(axis=1)
    khat = np.full(len(weights), np.inf)
    if num_samples > 20:
        _spread_ties(weights)
        with np.errstate(all="ignore"):  # a tail without spread: its NaN is replaced below
            khat = np.asarray(psislw(weights)[1])
    constant = np.isclose(highest, lowest, rtol=1e-12, atol=1e-4) & np.isfinite(highest)
    constant &= num_samples > 1
    return np.where(constant, -np.inf, np.where(np.isfinite(khat), khat, np.inf))


def _spread_ties(log_w: np.ndarray) -> None:
    """Spread equal weights, in place, in each row of `log_w`, `(B, K)`, whose tail begins in ties.

    n weights that equal w, with v the next lower value, or 0, become w - (w - v) i / n, i = 0 to
    n - 1.
    """
    num_samples = log_w.shape[1]
    tail = math.ceil(min(num_samples / 5, 3 * math.sqrt(num_samples)))  # as ArviZ takes it
    ordered = np.sort(log_w, axis=1)
    for row in np.flatnonzero(ordered[:, -tail - 1] == ordered[:, -tail]):
        values, member, counts = np.unique(log_w[row], return_inverse=True, return_counts=True)
        if len(values) == 1:
            continue
        w = np.exp(values - values[-1])
        below = np.append(0, w[:-1])
        place = np.argsort(np.argsort(member, kind="stable"), kind="stable")
        i = place - np.append(0, np.cumsum(counts)[:-1])[member]  # 0 .. n - 1 among the equal
        with np.errstate(divide="ignore"):
            log_w[row] = np.log(w[member] - (w - below)[member] * i / counts[member])


def check_log_weights(log_w: Tensor | np.ndarray) -> Tensor:
    """Return `log_w` as a tensor; raise InputError unless it holds log weights `(K, B)`.

    There must be at least one sample and one image. -inf is the log of a weight of zero.
    """
    if isinstance(log_w, np.ndarray) and log_w.dtype.kind == "f":
        # torch takes neither read-only arrays (JAX's) nor floats of over 8 bytes
        log_w = torch.as_tensor(np.require(log_w, f"f{min(log_w.itemsize, 8)}", ["C", "W"]))
    tensor = isinstance(log_w, Tensor) and log_w.is_floating_point()
    if not tensor or log_w.dim() != 2 or log_w.numel() == 0:
        raise InputError(f"log_w must be floats (K, B), K and B >= 1, not {describe(log_w)}")
    if not (log_w < math.inf).all():  # false for NaN too
        raise InputError("log_w must not hold NaN or +inf: check the model and the guide")
    return log_w


@checked
def passes(khat: np.ndarray, num_samples: int) -> np.ndarray:
    """Return whether each k-hat is at most `khat_threshold(num_samples)`: trust that estimate."""
    if khat.dtype.kind != "f":
        raise InputError(f"khat must be floats, not {describe(khat)}")
    return khat <= khat_threshold(num_samples)


@checked
def khat_threshold(num_samples: int) -> float:
    """Return the largest k-hat at which K samples can be trusted: min(1 - 1 / log10 K, 0.7).

    It is 0.5 at K = 100, 0.67 at K = 1000 and -inf at K = 1 (Vehtari et al. 2024, section 3.2).
    """
    check_counts(num_samples=num_samples)
    return min(1 - 1 / math.log10(num_samples), 0.7) if num_samples > 1 else -math.inf
