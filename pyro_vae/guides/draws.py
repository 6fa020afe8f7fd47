"""How many draws of a fitted proposal an image needs, and its estimate by them."""

import math

import numpy as np
import torch

from pyro_vae.guides.adaptive import (
    LEAST_SHARE,
    Round,
    adaptive_importance_sampling,
    drawn,
    estimate_by,
)
from pyro_vae.guides.posterior import Posterior
from pyro_vae.guides.student import StudentMixture
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.importance import DRAWS

# numbers of draws: few kinds, so that many images are drawn for at once
COUNTS = (200, 300, 400, 500, 600, 750, 1000, 1500, 2000, 3000, 5000)
COUNTS += (10_000, 20_000, 50_000, 100_000)
SPARE = 2.0  # the draws that tell how many are needed may have missed the larger weights
DOUBTFUL = 0.4  # a k-hat from which on few draws may not pass
SAFE = 600  # draws that mostly do
REFIT = 500  # draws of the fit where the first has failed


def to_accuracy(
    posterior: Posterior, proposal: StudentMixture, fitted: Estimate, se: float, most: int
) -> Estimate:
    """Estimate log p(x) of each image until it is trusted, its standard error `se` at most.

    `fitted` is the estimate by the draws of the fit, which say how many draws are needed. These
    have no part in the result, and all later draws of an image have. To go on where the estimate
    looks uncertain is a bias still, since it does where a large weight was drawn: at an error of
    0.1 nats 0.001 at d = 4 and about 0.01 at d = 20, on MNIST. An image has `most` draws at most.
    """
    counts = np.minimum(draws_needed(fitted, se), most)
    result, rounds = _first(posterior, proposal, counts)
    while True:
        failing = np.flatnonzero(
            ~(result.trusted() & (result.se <= se)) & (result.num_samples < most)
        )
        if not len(failing):
            return result
        known = result.subset(failing)
        weak = ~known.trusted() | (known.ess < LEAST_SHARE * known.num_samples)
        if weak.any():  # by fresh draws: those that are reported stay independent of the proposal
            rows = torch.from_numpy(failing[weak])
            fit = adaptive_importance_sampling(
                posterior.rows(rows), proposal.rows(rows), (REFIT,), khat=-math.inf
            )
            proposal = proposal.replaced(rows, fit[0])
        # how good a new proposal is, is not known yet: as many draws again
        needed = np.where(weak, 2 * known.num_samples, draws_needed(known, se))
        for i, total in zip(failing, needed, strict=True):
            row, already = torch.tensor([i]), result.num_samples[i]
            count = int(min(max(total - already, already // 2), most - already))
            rounds[i].append(drawn(posterior.rows(row), proposal.rows(row), count))
            result = result.replaced(np.array([i]), estimate_by(rounds[i]))


def draws_needed(known: Estimate, se: float) -> np.ndarray:
    """Return how many draws, `(B,)` of COUNTS, bring the standard error down to `se`.

    With relative variance v of the weights, of which N of effective size e tell v = N / e - 1, the
    standard error is sqrt(v / K).
    """
    variance = known.num_samples / np.maximum(known.ess, 1.0) - 1
    needed = SPARE * variance / se**2
    needed = np.where(known.khat > DOUBTFUL, np.maximum(needed, SAFE), needed)
    return np.array(COUNTS)[np.searchsorted(COUNTS[:-1], needed)]


def _first(
    posterior: Posterior, proposal: StudentMixture, counts: np.ndarray
) -> tuple[Estimate, list[list[Round]]]:
    """Estimate by as many draws of each image as `counts` say; return these draws too."""
    results, order = [], []
    rounds: list[list[Round]] = [[] for _ in counts]
    for count in np.unique(counts):
        images = np.flatnonzero(counts == count)
        for part in np.array_split(images, -(-len(images) * count // DRAWS)):
            rows = torch.from_numpy(part)
            now = drawn(posterior.rows(rows), proposal.rows(rows), int(count))
            results.append(estimate_by([now]))
            order.append(part)
            for k, i in enumerate(part):
                rounds[i].append(now.rows(torch.tensor([k])))
    return Estimate.concatenate(results).subset(np.argsort(np.concatenate(order))), rounds
