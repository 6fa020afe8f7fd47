"""Pareto k-hat of importance weights, and the rule by which an estimate is trusted.

The fit of Zhang and Stephens, of all images at once, on the device of their weights. The tests hold
it against ArviZ's, which fits image by image on the processor, to 1e-8.
"""

import math

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import InputError, check_counts, checked, describe

LOG_TINY = math.log(np.finfo(float).tiny)  # of the smallest weight beside one of 1
ROUNDING = 1e-10  # log weights no further apart count as equal
AT_ONCE = 10_000_000  # numbers that a fit holds at once, 80 MB


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
    weights = _float64(check_log_weights(log_w).detach()).T
    num_samples = weights.shape[1]
    highest, lowest = weights.amax(1), weights.amin(1)
    khat = torch.full_like(highest, math.inf)
    if num_samples > 25:
        tail = math.ceil(min(num_samples / 5, 3 * math.sqrt(num_samples)))
        relative = (weights - highest[:, None]).nan_to_num(nan=-math.inf, neginf=-math.inf)
        log_tails = relative.topk(tail + 1).values.flip(1)
        log_tails[log_tails <= LOG_TINY] = -math.inf
        ties = _begins_in_ties(log_tails)
        if ties.any():
            log_tails[ties] = _spread_ties(relative[ties], tail)
        khat = _fit_tails(log_tails)
    gap = 1e-4 + 1e-12 * lowest.abs()
    constant = lowest.isfinite() & (highest - lowest <= gap) & (num_samples > 1)
    return torch.where(constant, -math.inf, khat).cpu().numpy()


def _float64(tensor: Tensor) -> Tensor:
    """Return `tensor` in float64, on the processor where its device has none: Apple's mps."""
    return (tensor.cpu() if tensor.is_mps else tensor).double()


def _begins_in_ties(log_tails: Tensor) -> Tensor:
    """Return of which rows the tail starts with equal weights, or the fit's quantile is one."""
    tail = log_tails.shape[1] - 1
    first, before = log_tails[:, -tail], log_tails[:, 0]
    quantile = log_tails[:, _quarter(tail) - tail]
    return (first <= before + ROUNDING) | (quantile <= first + ROUNDING)


def _spread_ties(log_w: Tensor, tail: int) -> Tensor:
    """Spread equal weights of `log_w`, `(B, K)`; return the tails, `(B, 1 + tail)`, ascending.

    n weights that equal w, with v the next lower value, or 0, become w - (w - v) i / n, i = n - 1
    to 0.
    """
    rows = np.sort(log_w.cpu().numpy(), axis=1)
    rows[rows <= LOG_TINY] = -np.inf
    for row in rows:
        _, first, member, counts = np.unique(
            row.round(10), return_index=True, return_inverse=True, return_counts=True
        )
        if len(first) == 1:
            continue
        w = np.exp(row[first])
        below = np.append(0, w[:-1])
        i = (first + counts - 1)[member] - np.arange(len(member))
        with np.errstate(divide="ignore"):
            row[:] = np.sort(np.log(w[member] - (w - below)[member] * i / counts[member]))
    return torch.from_numpy(rows[:, -tail - 1 :]).to(log_w)


def _fit_tails(log_tails: Tensor) -> Tensor:
    """Return k-hat, `(B,)`, from the log of the tails' weights, `(B, 1 + tail)`, ascending.

    The first of a row is not in the tail: it is the threshold. The largest weight is 1. k-hat is
    +inf where fewer than six weights are above the threshold, and where the lowest quarter of
    those is equal.

    For the excesses x_1 < ... < x_n over the threshold, b_i, i = 1, ..., m, are points from their
    prior, and k(b) = mean log(1 - b x). Their posterior has the weights exp L(b_i), L(b) =
    n (log(-b / k) - k - 1), and k-hat is k at its mean, drawn towards 1/2 by a prior worth ten
    weights (Zhang, Stephens 2009, A new and efficient estimation method for the generalized Pareto
    distribution).
    """
    log_tails = log_tails.clamp(min=LOG_TINY)
    above = log_tails[:, 1:] > log_tails[:, :1]
    n = above.sum(1)
    x = torch.where(above, log_tails[:, 1:].exp() - log_tails[:, :1].exp(), 0.0)
    tail = x.shape[1]
    quarter = (_quarter(n) + tail - n).clamp(0, tail - 1)
    lowest = x.gather(1, (tail - n).clamp(0, tail - 1)[:, None])[:, 0]
    quantile = x.gather(1, quarter[:, None])[:, 0]
    khat = torch.full_like(quantile, math.inf)
    fitted = ((n > 5) & (lowest < quantile)).nonzero()[:, 0]
    points = 30 + math.isqrt(tail)
    for rows in fitted.split(max(1, AT_ONCE // (points * tail))):
        khat[rows] = _fit(x[rows], n[rows, None], quantile[rows, None], points)
    return khat.nan_to_num(nan=math.inf, posinf=math.inf, neginf=math.inf)


def _fit(x: Tensor, n: Tensor, quantile: Tensor, points: int) -> Tensor:
    """Return k-hat, `(B,)`, of excesses `x`, `(B, tail)`: n of them, and before them zeros."""
    m = 30 + n.to(x).sqrt().floor()
    i = torch.arange(1, points + 1, device=x.device)
    b = (1 - (m / (i - 0.5)).sqrt()) / (3 * quantile) + 1 / x[:, -1:]  # (B, points)
    k = torch.log1p(-b[:, :, None] * x[:, None, :]).sum(2) / n
    ratio = torch.where(b == 0, n / x.sum(1, keepdim=True), -b / k)
    score = n * (ratio.log() - k - 1)
    share = torch.where(i <= m, score, -math.inf).softmax(1)
    share = torch.where(share >= 10 * torch.finfo(x.dtype).eps, share, 0.0)
    mean = (b * share).sum(1, keepdim=True) / share.sum(1, keepdim=True)
    shape = torch.log1p(-mean * x).sum(1, keepdim=True) / n
    return ((n * shape + 10 * 0.5) / (n + 10))[:, 0]


def _quarter(tail: int | Tensor) -> int | Tensor:
    """Return the place, from 0, of the quantile to which the fit scales a tail: n / 4, rounded."""
    return (tail + 2) // 4 - 1


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
