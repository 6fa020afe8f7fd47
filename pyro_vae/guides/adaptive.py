"""Adaptive multiple importance sampling: a proposal refitted to its own weighted draws."""

import math

import torch
from torch import Tensor

from pyro_vae.guides.laplace import LogJoint
from pyro_vae.guides.student import StudentMixture
from pyro_vae.likelihood.importance import default_chunk_size
from pyro_vae.networks.precision import to_float64_device


def adaptive_importance_sampling(
    log_joint: LogJoint, proposal: StudentMixture, samples_per_round: tuple[int, ...]
) -> StudentMixture:
    """Return `proposal` after rounds of adaptive multiple importance sampling.

    Each round adds its draws to all earlier ones, N in all. They are weighted by p(x, z) over the
    mixture of all proposals so far, and the weights are truncated at sqrt(N) times their mean
    (Ionides 2008). Then each component moves to its weighted mean and covariance (`_refit`).
    """
    proposals, draws, values = [], [], []
    for count in samples_per_round:
        proposals.append(proposal)
        draws.append(proposal.sample((count,)))
        values.append(to_float64_device(_in_pieces(log_joint, draws[-1])).double())
        z = to_float64_device(torch.cat(draws))  # (N, B, d)
        log_q = torch.stack(
            [
                p.log_prob(z) + math.log(n / len(z))
                for p, n in zip(proposals, samples_per_round, strict=False)
            ]
        ).logsumexp(0)
        log_w = torch.log_softmax(torch.cat(values) - log_q, 0)
        w = torch.softmax(log_w.clamp(max=-0.5 * math.log(len(z))), 0)  # (N, B)
        proposal = _refit(proposal, z, w)
    return proposal


def _refit(proposal: StudentMixture, z: Tensor, w: Tensor) -> StudentMixture:
    """Move each component to the weighted moments of the draws `z`, `(N, B, d)`, near it.

    `w`, `(N, B)`, are the draws' weights; each draw is shared among the components by their
    densities there (Cappe et al. 2008). All moments are shrunk towards the earlier ones.
    """
    z, d = z.double(), z.shape[-1]
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


def _in_pieces(log_joint: LogJoint, z: Tensor) -> Tensor:
    """Return `log_joint` of all draws, for as many at a time as the device does fastest."""
    return torch.cat(
        [log_joint(piece) for piece in z.split(max(1, default_chunk_size(z) // z.shape[1]))]
    )
