"""Where to look for the modes of each image's posterior.

Candidates are shared by the images of a batch: draws of the prior, and the guide's mean of every
image. Each is decoded once and scored for all images, by the exponential family of their pixels
(`pyro_vae.guides.families`): thousands of candidates for each image, at the cost of a few.
"""

import math

import torch
from torch import Tensor

from pyro_vae.guides.families import pixels_of
from pyro_vae.guides.posterior import Posterior
from pyro_vae.likelihood.coordinates import from_latents
from pyro_vae.likelihood.sites import run
from pyro_vae.likelihood.traces import sites_of_samples

DRAWS = 3000  # candidates from the prior, as many for all images
GROUPS = 10  # kinds of labels up to which candidates are decoded for each kind
APART = 0.5  # the least distance of two starts, where the candidates' own spread is 1
OWN = 20  # draws of the prior for each start, where the images cannot share them


def starts(posterior: Posterior, mean: Tensor, count: int) -> Tensor:
    """Return `count` points to start from, `(count, B, D)`: the guide's `mean` and the best others.

    The images share candidates where the scores that these give are those of the model.
    """
    if count == 1:
        return mean[None]
    shared = _shared(posterior, mean, count - 1)
    others = _own(posterior, count - 1) if shared is None else shared
    return torch.cat([mean[None], others])


def _shared(posterior: Posterior, mean: Tensor, count: int) -> Tensor | None:
    """Return the best of candidates that all images share; None where they cannot share any."""
    groups = _groups(posterior)
    if groups is None:
        return None
    chosen = mean.new_empty(count, *mean.shape)
    for rows in groups:
        of_group = posterior.rows(rows)
        candidates = torch.cat([_prior_draws(of_group, DRAWS // len(groups)), mean])  # (M, D)
        scores = _scores(of_group, candidates)
        if scores is None:
            return None
        score, best = _apart(scores, candidates, mean[rows], count)  # (count, b)
        chosen[:, rows] = candidates[best]
        # the scores leave out a term of x alone: only differences of candidates can be compared
        two = torch.stack([candidates[best[0]], candidates[:1].expand(len(rows), -1)])
        first, second = of_group.log_joint(two)
        if not torch.allclose(first - second, score[0] - scores[0], 1e-3, 0.1):
            return None
    return chosen


def _apart(scores: Tensor, candidates: Tensor, mean: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the best scores of each image, `(count, B)`, and which candidates have them.

    Each is the best of those that are farther than APART from the mean and from the ones before,
    as long as there are any: a mode that is found needs no second start.
    """
    spread = candidates.std(0).norm()
    left, best = scores.masked_fill(torch.cdist(candidates, mean) < APART * spread, -math.inf), []
    for _ in range(count):
        best.append(left.argmax(0))
        near = torch.cdist(candidates, candidates[best[-1]]) < APART * spread  # (M, B)
        left = left.masked_fill(near, -math.inf)
    best = torch.stack(best)
    return scores.gather(0, best), best


def _groups(posterior: Posterior) -> list[Tensor] | None:
    """Return the images with equal labels, by their numbers; None where each has its own."""
    labels = *posterior.batch[1:], *posterior.held.values()
    keys = [tensor.reshape(len(tensor), -1) for tensor in labels]
    if not keys:
        return [torch.arange(len(posterior.batch[0]), device=posterior.batch[0].device)]
    keys = torch.cat([key.double() for key in keys], 1)
    kinds, kind = keys.unique(dim=0, return_inverse=True)
    if len(kinds) > GROUPS:
        return None
    return [(kind == i).nonzero().flatten() for i in range(len(kinds))]


def _prior_draws(posterior: Posterior, count: int) -> Tensor:
    """Return draws of u from the prior, `(count, D)`, by the labels of the first image."""
    one = posterior.rows(slice(1))
    sites = sites_of_samples(one.conditioned(), one.batch, count)
    return from_latents(posterior.coordinates, {site.name: site.value for site in sites})[:, 0]


def _scores(posterior: Posterior, candidates: Tensor) -> Tensor | None:
    """Return log p(x_b, u_m), `(M, B)`, up to a term of x_b alone; None where that is not known."""
    x = posterior.batch[0]
    log_prior, sites = posterior.rows(slice(1)).parts(candidates[:, None])
    scores = log_prior.expand(len(candidates), 1)
    for site in sites:
        if site.fn.batch_shape.numel() != len(candidates):
            continue  # it does not depend on u
        pixels = pixels_of(site.fn)
        if pixels is None or site.fn.event_shape.numel() != x[0].numel():
            return None
        mask = torch.as_tensor(pixels.mask, device=x.device).expand(pixels.base.batch_shape)
        mask = mask.reshape(len(candidates), -1)[0]  # images of one group see the same pixels
        q, family = pixels.base, pixels.family
        zeros = torch.zeros((), dtype=x.dtype, device=x.device)
        at_zero = q.log_prob(zeros).reshape(len(candidates), -1)
        scores = scores + (at_zero * mask).sum(-1, keepdim=True)
        for eta, statistic in zip(family.natural(q), family.statistics(x), strict=True):
            eta = eta.expand(q.batch_shape).reshape(len(candidates), -1)
            scores = scores + eta @ (statistic.reshape(len(x), -1).to(eta) * mask).T
    return scores


def _own(posterior: Posterior, count: int) -> Tensor:
    """Return, of 20 `count` draws of the prior for each image, the `count` best."""
    draws, values = [], []
    for _ in range(OWN * count):
        sites = run(posterior.conditioned(), posterior.batch)
        draws.append(from_latents(posterior.coordinates, {site.name: site.value for site in sites}))
        values.append(sum(site.log_prob for site in sites))
    best = torch.stack(values).topk(count, dim=0).indices  # (count, B)
    return torch.stack(draws).gather(0, best[..., None].expand(-1, -1, draws[0].shape[-1]))
