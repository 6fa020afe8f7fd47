"""Adaptive multiple importance sampling: a proposal refitted to its own weighted draws."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_vae.guides.posterior import Posterior, pieces
from pyro_vae.guides.score_matching import FEW, score_matching
from pyro_vae.guides.student import StudentMixture
from pyro_vae.likelihood.estimate import Estimate, estimate
from pyro_vae.networks.precision import autocast, to_float64_device

LEAST_SHARE = 0.1  # of the draws that are effective, below which a proposal is fitted anew
FRAMES = 3  # of the score matching then
LEAST = 100  # effective draws below which a proposal that passes stays as it is
DRAWS_PER_ENTRY = 10  # effective draws for each entry of a covariance that better the proposal


class Round(NamedTuple):
    """What a round has drawn of B images."""

    proposal: StudentMixture
    draws: Tensor  # (N, B, D)
    values: Tensor  # log p(x, u) there, (N, B)

    def rows(self, rows: Tensor) -> "Round":
        """Return the draws of some of the images."""
        return Round(self.proposal.rows(rows), self.draws[:, rows], self.values[:, rows])


def drawn(
    posterior: Posterior, proposal: StudentMixture, count: int, precision: str = "float32"
) -> Round:
    """Draw from the proposals, and score the draws, as many at a time as the device does fastest.

    The matrix products of the model have the `precision`.
    """
    u = proposal.sample((count,))
    with autocast(precision, u):
        values = torch.cat([posterior.log_joint(piece) for piece in pieces(u)])
    return Round(proposal, to_float64_device(u), to_float64_device(values).double())


def estimate_by(rounds: Sequence[Round]) -> Estimate:
    """Estimate log p(x) of each image by the draws of all rounds; each image has its own K."""
    u, log_w = pooled(rounds)
    return estimate(log_w)._replace(num_samples=np.full(u.shape[1], len(u)))


def pooled(rounds: Sequence[Round]) -> tuple[Tensor, Tensor]:
    """Return the draws of all rounds, `(N, B, D)`, and their log weights, `(N, B)`.

    The weights are p(x, u) over the density of the mixture from which the N draws are: each round's
    proposal in proportion to its draws (Veach, Guibas 1995, the balance heuristic).
    """
    u, values = (torch.cat(parts) for parts in zip(*(r[1:] for r in rounds), strict=True))
    log_q = [r.proposal.log_prob(u).double() + math.log(len(r.draws) / len(u)) for r in rounds]
    return u, values - torch.stack(log_q).logsumexp(0)


def adaptive_importance_sampling(
    posterior: Posterior,
    proposal: StudentMixture,
    samples_per_round: Sequence[int],
    precision: str = "float32",
    khat: float = math.inf,
    earlier: Sequence[Round] = (),
) -> tuple[StudentMixture, Estimate]:
    """Return proposals after rounds of adaptive multiple importance sampling, and the last rounds.

    In each round an image's proposal gives draws, and these an estimate of log p(x).

    - If it passes the k-hat rule, is below `khat`, and a tenth of the draws are effective, the
      image is in no further round. Its proposal is refitted once more if there are many effective
      draws for each entry of a covariance.
    - Else the proposal is refitted, in many dimensions to gradients at other draws too, since few
      of these are effective; and the image goes on.

    To refit, all draws so far are weighted by p(x, u) over the mixture of all proposals so far, and
    each component moves to its weighted mean and covariance (`_refit`).

    The matrix products of the model have the `precision`.
    """
    count, *further = samples_per_round
    now = drawn(posterior, proposal, count, precision)
    rounds, result = [*earlier, now], estimate_by([now])
    good = result.trusted() & (result.khat < khat) & (result.ess >= LEAST_SHARE * count)
    failing = np.flatnonzero(~good)
    d = now.draws.shape[-1]
    moving = np.flatnonzero(~good | (result.ess > max(LEAST, DRAWS_PER_ENTRY * d * (d + 1) / 2)))
    if len(moving):
        rows = torch.from_numpy(moving)
        proposal = proposal.replaced(rows, _refit([r.rows(rows) for r in rounds]))
    if len(failing):
        rows = torch.from_numpy(failing)
        of_failing, refitted = posterior.rows(rows), proposal.rows(rows)
        if d > FEW:
            refitted = score_matching(of_failing, refitted, FRAMES)
        if further:
            rest = further, precision, khat, [r.rows(rows) for r in rounds]
            refitted, again = adaptive_importance_sampling(of_failing, refitted, *rest)
            result = result.replaced(failing, again)
        proposal = proposal.replaced(rows, refitted)
    return proposal, result


def _refit(rounds: Sequence[Round]) -> StudentMixture:
    """Move each component of the last proposal to the weighted moments of the draws near it.

    The weights are truncated at sqrt(N) times their mean (Ionides 2008). Each draw is shared among
    the components by their densities there (Cappe et al. 2008). All moments are shrunk towards the
    earlier ones.
    """
    proposal, (z, log_w) = rounds[-1].proposal, pooled(rounds)
    z, d = z.double(), z.shape[-1]
    log_w = torch.log_softmax(log_w, 0)
    w = torch.softmax(log_w.clamp(max=-0.5 * math.log(len(z))), 0)  # (N, B)
    responsibility = torch.softmax(proposal.component_log_prob(z), -1)  # (N, B, C)
    locs, trils, masses = [], [], []
    for c in range(proposal.loc.shape[1]):
        v = w * responsibility[..., c]
        mass = v.sum(0)  # (B,)
        reached = mass > 1e-9  # else nothing was drawn near this component: it stays as it is
        v = torch.where(reached, v / mass, 1 / len(z))
        mean, covariance, ess = _weighted_moments(z, v)
        ess = torch.where(reached, ess, 0.0)
        previous = proposal.scale_tril[:, c] @ proposal.scale_tril[:, c].mT
        target = _shrink_variances(covariance, previous, ess)
        locs.append(_shrink(mean, proposal.loc[:, c], ess, d))
        covariance = _shrink(covariance, target, ess, d * (d + 1) / 2)  # by its free entries
        trils.append(torch.linalg.cholesky(covariance))
        masses.append(mass)
    # a mode that this round missed may be found by the next: no weight falls below 1%
    mass = torch.stack(masses, -1)
    mass = torch.where(proposal.log_mixture_weights.isinf(), 0.0, mass.clamp(min=0.01))
    return StudentMixture(
        torch.stack(locs, 1),
        torch.stack(trils, 1),
        (mass / mass.sum(-1, keepdim=True)).log(),
        proposal.like,
    )


def _weighted_moments(z: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean `(B, d)`, covariance `(B, d, d)` and effective sample size `(B,)` of `z`.

    The weights `v`, `(N, B)`, of the draws `z`, `(N, B, d)`, sum to one for each image.
    """
    mean = torch.einsum("nb,nbi->bi", v, z)
    centred = z - mean
    covariance = torch.einsum("nb,nbi,nbj->bij", v, centred, centred)
    return mean, covariance, 1 / v.square().sum(0)


def _shrink(value: Tensor, target: Tensor, ess: Tensor, prior_size: float) -> Tensor:
    """Return (ess value + prior_size target) / (ess + prior_size): linear shrinkage.

    `value` rests on `ess`, `(B,)`, effective samples; the target counts as `prior_size` of them.
    """
    data_share = (ess / (ess + prior_size)).view(-1, *(1,) * (value.dim() - 1))
    return data_share * value + (1 - data_share) * target


def _shrink_variances(covariance: Tensor, previous: Tensor, ess: Tensor) -> Tensor:
    """Return `previous`, `(B, d, d)`, with its axes kept and the variances along them shrunk.

    The new variances are those of `covariance` along these axes, shrunk towards the previous ones.
    d numbers need fewer samples than d (d + 1) / 2.
    """
    variances, axes = torch.linalg.eigh(previous)
    along = torch.einsum("bij,bik,bkj->bj", axes, covariance, axes)
    along = _shrink(along, variances.clamp(min=1e-12), ess, variances.shape[-1])
    return axes @ torch.diag_embed(along) @ axes.mT
