"""Which digit is it? Bayes' rule on a conditional model: p(y | x) = p(y) p(x | y) / p(x).

Each log p(x | y) is an importance sampling estimate with the guide q(z | x, y) as the proposal, so
the classifier is the generative model alone. Two cautions:

- An estimate from few samples is too low, most of all for a label that the guide has never seen
  with such an image. A poor proposal for wrong labels looks like evidence for the right one.
- The score of grey pixels is a surrogate, not a density over images. p(y | x) is then Bayes' rule
  applied to a score; it is a probability under the model only for black and white pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import log_softmax, softmax
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
from pyro_vae.programs import Program
from pyro_vae.progress import Progress, part


@checked
def class_log_likelihoods(
    model: Program,
    guide: Program,
    x: Tensor,
    *,
    num_classes: int = 10,
    num_samples: int = 100,
    seed: int = 0,
    progress: Progress = None,
) -> list[Estimate]:
    """Estimate log p(x | y) of each image of `x` with each label y = 0, ..., num_classes - 1."""
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
            progress=part(progress, f"y = {y}"),
        )
        for y in range(num_classes)
    ]


@checked
def label_probabilities(log_p: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
    """Return p(y | x), `(B, C)`, from log p(x | y), `(B, C)`, and p(y), `(C,)`, uniform if None."""
    check_numbers("B", "C", log_p=log_p)
    if not (log_p < np.inf).all() or np.isneginf(log_p).all(1).any():  # catches NaN too
        raise InputError("log_p must not hold NaN or +inf, and be finite for a label of each image")
    if prior is not None:
        check_numbers("C", prior=prior)
        good = prior.shape == log_p.shape[1:] and (prior > 0).all() and (prior < np.inf).all()
        if not good:
            raise InputError(f"prior must be {log_p.shape[1]} shares > 0, one for each label")
    return softmax(log_p + (0.0 if prior is None else np.log(prior)), axis=1)


@checked
def label_mutual_information(log_p: np.ndarray, labels: np.ndarray) -> dict:
    """Return the mean of log p(y | x) / h(y), nats, and its interval, from `(B, C)`, `(B,)`.

    p(y | x) is Bayes' rule with equal p(y), and h(y) the share of y among these `labels`. The mean
    of -log h(y) is their entropy H(y), so this is H(y) + E log p(y | x). On images drawn from the
    model, with labels equally frequent, it is the mutual information of x and y; on other images a
    lower bound of theirs, in expectation (Barber, Agakov 2003, eq. 3). It is at most H(y), and for
    equal shares 0 where y is ignored. It may be negative, where p(y | x) is overconfident: the
    bound then says nothing. H(y) is too low by (C - 1) / 2 B, on average.
    """
    label_probabilities(log_p)  # checks it
    check_classes(*log_p.shape, labels=labels)
    of_own = log_softmax(log_p, axis=1)[np.arange(len(labels)), labels]
    share = np.bincount(labels) / len(labels)
    return mean_interval(of_own - np.log(share[labels]))


@checked
def reliability(
    p: np.ndarray, labels: np.ndarray, edges: Sequence[float] | np.ndarray
) -> list[dict]:
    """Compare confidence with accuracy, for the images with confidence between successive `edges`.

    An image's confidence is its largest p(y | x), from `p`, `(B, C)`. For each bin that holds an
    image, `sure` is the mean confidence and `right` the accuracy with its 95% interval.
    """
    check_table(p=p)
    if p.min() < 0 or p.max() > 1:
        raise InputError("p must be probabilities, from 0 to 1")
    edges = np.asarray(edges)
    check_numbers("N", edges=edges)
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise InputError("edges must be two or more, each higher than the one before")
    check_classes(*p.shape, labels=labels)
    confidence, right = p.max(1), p.argmax(1) == labels
    place = np.searchsorted(edges, confidence, side="right") - 1
    place[confidence == edges[-1]] -= 1  # the last bin includes its upper edge
    return [
        {
            "from": float(edges[b]),
            "to": float(edges[b + 1]),
            "images": int((place == b).sum()),
            "sure": float(confidence[place == b].mean()),
            "right": proportion_interval(right[place == b]),
        }
        for b in range(len(edges) - 1)
        if (place == b).any()
    ]
