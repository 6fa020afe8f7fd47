"""Which digit is it? Bayes' rule on a conditional model: p(y | x) = p(y) p(x | y) / p(x).

Each log p(x | y) is an importance sampling estimate with the guide q(z | x, y) as the proposal, so
that the classifier is the generative model and nothing else. Two cautions. An estimate from few
samples errs downwards, and more so for a label that the guide has never seen with such an image:
that a proposal is poor for the wrong labels looks like knowledge of the right one. And scores of
grey pixels are a surrogate, not a density over images: with them p(y | x) is what Bayes' rule makes
of the score, and a probability under the model only where the pixels are black or white.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import (
    InputError,
    check_classes,
    check_counts,
    check_number,
    check_numbers,
    check_rows,
    check_table,
    checked,
)
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.intervals import mean_interval, proportion_interval
from pyro_vae.likelihood.traces import Program


@checked
def class_log_likelihoods(
    model: Program,
    guide: Program,
    x: Tensor,
    *,
    num_classes: int = 10,
    num_samples: int = 100,
    seed: int = 0,
    progress: str | None = None,
) -> list[Estimate]:
    """log p(x | y) of each image of `x` with each label y = 0, ..., classes - 1 in turn."""
    check_counts(num_classes=num_classes)
    check_number("seed", seed, 0, 2**32 - num_classes)
    check_rows(x)
    return [
        log_likelihood(
            model,
            guide,
            x,
            torch.full((len(x),), y, device=x.device),
            num_samples=num_samples,
            seed=seed + y,
            progress=progress and f"{progress}, y = {y}",
        )
        for y in range(num_classes)
    ]


@checked
def label_probabilities(log_p: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
    """p(y | x), `(B, C)`, from log p(x | y), `(B, C)`, and p(y), `(C,)`, by default uniform."""
    check_numbers("B", "C", log_p=log_p)
    if not (log_p < np.inf).all() or np.isneginf(log_p).all(1).any():  # NaN is not below either
        raise InputError("log_p must not hold NaN or +inf, and be finite for a label of each image")
    if prior is not None:
        check_numbers("C", prior=prior)
        good = prior.shape == log_p.shape[1:] and (prior > 0).all() and (prior < np.inf).all()
        if not good:
            raise InputError(f"prior must be {log_p.shape[1]} shares > 0, one for each label")
    log_joint = log_p + (0.0 if prior is None else np.log(prior))
    weights = np.exp(log_joint - log_joint.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


@checked
def label_mutual_information(log_p: np.ndarray, labels: np.ndarray) -> dict:
    """What the label says of the image, nats: the mean of log p(x | y) - log p(x), its interval.

    p(x) = mean_y p(x | y). On the model's own images this is the mutual information of x and y; on
    others a lower bound of theirs, in expectation (Barber, Agakov 2003), at most log C. It is 0
    where y is ignored, and negative where p(y | x) is surer than it is right, and says nothing.
    """
    p = label_probabilities(log_p)
    check_classes(*p.shape, labels=labels)
    own = p[np.arange(len(labels)), labels]
    return mean_interval(np.log(own.clip(1e-300)) + np.log(log_p.shape[1]))


@checked
def reliability(
    p: np.ndarray, labels: np.ndarray, edges: Sequence[float] | np.ndarray
) -> list[dict]:
    """Of the images whose largest p(y | x) lies between two `edges`: how sure, how often right.

    `sure` is the mean of the largest p(y | x), `right` a share with its interval.
    """
    check_table(p=p)
    if p.min() < 0 or p.max() > 1:
        raise InputError("p must be probabilities, from 0 to 1")
    edges = np.asarray(edges)
    check_numbers("N", edges=edges)
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise InputError("edges must be two or more, each higher than the one before")
    check_classes(*p.shape, labels=labels)
    sure, right = p.max(1), p.argmax(1) == labels
    place = np.searchsorted(edges, sure, side="right") - 1
    place[sure == edges[-1]] -= 1  # the last two edges have the upper one between them too
    return [
        {
            "from": float(edges[b]),
            "to": float(edges[b + 1]),
            "images": int((place == b).sum()),
            "sure": float(sure[place == b].mean()),
            "right": proportion_interval(right[place == b]),
        }
        for b in range(len(edges) - 1)
        if (place == b).any()
    ]
