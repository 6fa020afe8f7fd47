"""Adaptive multiple importance sampling: a proposal refitted to its own weights."""

import math

import torch
from torch import Tensor

from pyro_vae.guides.laplace import Score
from pyro_vae.guides.student import StudentMixture
from pyro_vae.likelihood.importance import default_chunk_size


def adaptive_importance_sampling(
    log_joint: Score, proposal: StudentMixture, samples_per_round: tuple[int, ...]
) -> StudentMixture:
    """`proposal` after rounds of adaptive multiple importance sampling.

    Each round adds its draws to all earlier ones, weighs them by p(x, z) over the mixture of all
    proposals so far, truncates the weights at sqrt(N) times their mean, and moves each component to
    its weighted mean and covariance. These count as much as there are effective samples behind
    them, against as many of the earlier covariance as it has free entries.
    """
    proposals, draws, values = [], [], []
    for count in samples_per_round:
        proposals.append(proposal)
        draws.append(proposal.sample((count,)))
        values.append(_in_pieces(log_joint, draws[-1]).double())
        z = torch.cat(draws)  # (N, B, d)
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
    """The components moved to their weighted means and covariances; z `(N, B, d)`, w `(N, B)`."""
    z, d = z.double(), z.shape[-1]
    free = d * (d + 1) / 2  # entries of a covariance
    responsibility = torch.softmax(proposal.component_log_prob(z), -1)  # (N, B, C)
    locs, trils, shares = [], [], []
    for c in range(proposal.loc.shape[1]):
        v = w * responsibility[..., c]
        share = v.sum(0)  # (B,)
        reached = share > 1e-9  # else nothing was drawn near this component: it stays as it is
        v = torch.where(reached, v / share, 1 / len(z))
        samples = torch.where(reached, 1 / v.square().sum(0), 0.0)
        mean = torch.einsum("nb,nbi->bi", v, z)
        centred = z - mean
        covariance = torch.einsum("nb,nbi,nbj->bij", v, centred, centred)
        before = proposal.scale_tril[:, c] @ proposal.scale_tril[:, c].mT
        # the earlier scatter keeps its axes and takes the new variances along them
        variances, axes = torch.linalg.eigh(before)
        along = torch.einsum("bij,bik,bkj->bj", axes, covariance, axes)
        trust = (samples / (samples + d))[:, None]
        along = trust * along + (1 - trust) * variances.clamp(min=1e-12)
        before = axes @ torch.diag_embed(along) @ axes.mT
        locs.append(trust * mean + (1 - trust) * proposal.loc[:, c])
        trust = (samples / (samples + free))[:, None, None]
        trils.append(torch.linalg.cholesky(trust * covariance + (1 - trust) * before))
        shares.append(share)
    # a mode that this round missed may be found by the next: none falls below 1%
    share = torch.stack(shares, -1)
    share = torch.where(proposal.log_mixture_weights.isinf(), 0.0, share.clamp(min=0.01))
    return StudentMixture(
        torch.stack(locs, 1),
        torch.stack(trils, 1),
        (share / share.sum(-1, keepdim=True)).log(),
        proposal.dtype,
    )


def _in_pieces(log_joint: Score, z: Tensor) -> Tensor:
    """`log_joint` of all draws, as many at a time as the device does fastest."""
    return torch.cat(
        [log_joint(piece) for piece in z.split(max(1, default_chunk_size(z) // z.shape[1]))]
    )
