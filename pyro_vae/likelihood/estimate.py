"""From log weights alone: log p(x) with its evidence."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import InputError, check_counts, checked
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.likelihood.psis import check_log_weights, khat_threshold, pareto_khat


class Estimate(NamedTuple):
    """log p(x) of B images with its evidence. All arrays `(B,)`, float64, nats per image."""

    value: np.ndarray  # IWAE-K, the estimate of log p(x); its expectation is a lower bound
    se: np.ndarray  # its Monte Carlo standard error (delta method); NaN at K = 1 or value -inf
    ess: np.ndarray  # effective sample size, 1..K
    khat: np.ndarray  # Pareto shape of the weights' tail
    elbo: np.ndarray  # mean log weight: the ELBO from the same samples
    zero_weights: np.ndarray  # samples with log weight -inf: kept in every mean, and counted
    num_samples: int

    def trusted(self) -> np.ndarray:
        """Whether k-hat lets each estimate be trusted at this number of samples, `(B,)`."""
        return self.khat <= khat_threshold(self.num_samples)

    def subset(self, images: np.ndarray | slice) -> "Estimate":
        """The estimates of some of the images, by index."""
        return Estimate(*(array[images] for array in self[:-1]), self.num_samples)

    def summary(self) -> dict[str, float | int | bool | str]:
        """The mean over the images, and how far to trust it, in JSON's own types."""
        images = len(self.value)
        share = float(self.trusted().mean())
        over_images = mean_interval(self.value)
        return {
            "estimator": "importance sampling",
            "mean": over_images["mean"],
            # over the choice of images, and over the samples at these images
            "ci95": over_images["ci95"],
            "mc_se": float(np.sqrt(np.square(self.se).sum()) / images),
            "elbo": float(self.elbo.mean()),
            "num_samples": self.num_samples,
            "num_images": images,
            "share_trusted": share,
            "khat_threshold": khat_threshold(self.num_samples),
            "median_khat": float(np.median(self.khat)),
            "median_ess": float(np.median(self.ess)),
            "zero_weights": int(self.zero_weights.sum()),
            "verdict": _verdict(share),
        }


@checked
def estimate(log_w: Tensor) -> Estimate:
    """Everything that log weights `(K, B)` tell of log p(x). -inf is a weight of zero.

    Raises InputError where one is NaN or +inf.
    """
    check_log_weights(log_w)
    num_samples = len(log_w)
    log_w = log_w.detach().double().cpu()
    value = log_w.logsumexp(0) - math.log(num_samples)
    # relative weights w / mean(w); where every weight is zero the estimate is log 0 = -inf
    w = torch.where(value.isinf(), 0.0, torch.exp(log_w - value))
    # sd(w) / (sqrt(K) mean(w)): delta method for the logarithm of a mean
    se = torch.full_like(value, math.nan)
    if num_samples > 1:
        se = torch.where(value.isinf(), math.nan, w.std(0) / math.sqrt(num_samples))
    return Estimate(
        value=value.numpy(),
        se=se.numpy(),
        ess=(w.sum(0).square() / w.square().sum(0)).nan_to_num(0.0).numpy(),
        khat=pareto_khat(log_w),
        elbo=log_w.mean(0).numpy(),
        zero_weights=log_w.isinf().sum(0).numpy(),
        num_samples=num_samples,
    )


def _verdict(share_trusted: float) -> str:
    if share_trusted >= 0.99:
        return "to be trusted"
    return (
        f"not to be trusted as log p(x): k-hat is too high for {1 - share_trusted:.0%} of the "
        "images; a lower bound only"
    )


@checked
def iwae(log_w: Tensor, num_samples: int) -> Tensor:
    """IWAE-k of each image, `(B,)`, averaged over the K // k disjoint groups in `log_w`, `(K, B)`.

    `iwae(log_w, 1)` is the ELBO, `iwae(log_w, K)` the estimate of log p(x).
    """
    check_log_weights(log_w)
    check_counts(num_samples=num_samples)
    if num_samples > len(log_w):
        raise InputError(
            f"num_samples must be 1 to {len(log_w)} (the log weights), not {num_samples}"
        )
    groups = len(log_w) // num_samples
    grouped = log_w[: groups * num_samples].unflatten(0, (groups, num_samples))
    return (grouped.logsumexp(1) - math.log(num_samples)).mean(0)
