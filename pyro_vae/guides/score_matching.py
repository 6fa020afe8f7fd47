"""A Gaussian fitted to gradients of log p(x, u): what few draws can say in many dimensions.

The score of N(mu, P^-1) is the gradient of its log density, -P (u - mu), linear in u. So mu and P
follow from a linear regression of the gradients of log p(x, u) on draws u. A draw gives D numbers
in this way, where an importance weight gives one.

The draws come in pairs e and -e, in which the even terms of the gradient cancel from P, and along
the axes of random frames, so that they spread evenly over the directions of u.

References:
    Modi, Gower, Margossian, Yao, Blei, Saul (2023), Variational inference with Gaussian score
    matching, NeurIPS.
    Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei, Saul (2024), Batch and match: black-box
    variational inference with a score-based divergence, ICML.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_vae.guides.posterior import Posterior, pieces
from pyro_vae.guides.student import StudentMixture
from pyro_vae.networks.precision import to_float64_device

ROUNDS = 2
FEW = 10  # dimensions in which the weights of a few hundred draws say as much
RIDGE = 5  # draws for which the earlier Gaussian counts
WIDER, NARROWER = 5, 20  # the largest changes of a variance in a round
STEP = 2  # the farthest that a location moves, in standard deviations


def score_matching(
    posterior: Posterior, proposal: StudentMixture, frames: int = 1
) -> StudentMixture:
    """Return `proposal`, `(B, C, D)`, with each component fitted to the scores of draws near it.

    A round takes 2 D draws for each of the `frames`. Components that are switched off stay as they
    are.
    """
    loc, tril, log_weights = (part.clone() for part in proposal.parameters())
    for c in range(loc.shape[1]):
        rows = log_weights[:, c].isfinite().nonzero().flatten()
        if len(rows):
            start = Gaussians(loc[rows, c], tril[rows, c])
            loc[rows, c], tril[rows, c] = _fitted(
                posterior.rows(rows), start, proposal.like, frames
            )
    return StudentMixture(loc, tril, log_weights, proposal.like)


class Gaussians(NamedTuple):
    """N(loc, tril tril') for each of B images."""

    loc: Tensor  # (B, D)
    tril: Tensor  # (B, D, D)

    def at(self, white: Tensor) -> Tensor:
        """Return the draws u, `(K, B, D)`, that standard normal numbers `white` come to."""
        return self.loc + torch.einsum("bij,kbj->kbi", self.tril, white)

    def elbo(self, white: Tensor, value: Tensor) -> Tensor:
        """Return the mean of log p(x, u) - log q(u) over draws, `(B,)`, up to a constant."""
        log_det = self.tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return (value + white.square().sum(-1) / 2).mean(0) + log_det

    def where(self, condition: Tensor, other: "Gaussians") -> "Gaussians":
        """Return these Gaussians where the condition, `(B,)`, holds, and the others elsewhere."""
        loc = torch.where(condition[:, None], self.loc, other.loc)
        return Gaussians(loc, torch.where(condition[:, None, None], self.tril, other.tril))


def _fitted(posterior: Posterior, start: Gaussians, like: Tensor, frames: int) -> Gaussians:
    """Return the Gaussians after ROUNDS regressions; one that costs its ELBO a nat is taken back.

    On a rugged posterior the gradients near a mode may say nothing of what lies around it.
    """
    q = kept = start
    best = torch.full_like(start.loc[:, 0], -torch.inf)
    for number in range(ROUNDS + 1):
        white = _normal_pairs(frames, *q.loc.shape).to(q.loc)
        value, score = _scores(posterior, q.at(white).to(like), gradient=number < ROUNDS)
        elbo = q.elbo(white, value)
        kept, best = q.where(elbo > best - 1, kept), torch.maximum(elbo, best)
        if score is not None:
            q = _moved(q, white, value, score)
    return kept


def _moved(q: Gaussians, white: Tensor, value: Tensor, score: Tensor) -> Gaussians:
    """Return the Gaussians that a regression of the scores gives, `(K, B, D)`, on draws of q.

    Draws are weighted by the root of p(x, u) over the Gaussian's density, so that those count more
    that are likely under the posterior; no weight is above the root of their number.
    """
    score = torch.einsum("kbi,bij->kbj", score, q.tril)  # with respect to `white`
    w = len(white) * torch.softmax((value + white.square().sum(-1) / 2) / 2, 0)
    w = w.clamp(max=len(white) ** 0.5)
    shift, scatter = _regression(white, score, w / w.mean(0))
    loc = q.loc + torch.einsum("bij,bj->bi", q.tril, shift)
    return Gaussians(loc, q.tril @ torch.linalg.cholesky(scatter))


def _normal_pairs(frames: int, count: int, d: int) -> Tensor:
    """Draw pairs e, -e from N(0, I) along the axes of random frames, `(K, B, d)`, K = 2 d `frames`.

    B is `count`. The signs of axes are not random, which pairs do not see.
    """
    on_cpu = {"dtype": torch.float32, "device": "cpu"}
    axes, _ = torch.linalg.qr(torch.randn(frames, count, d, d, **on_cpu))
    degrees = torch.full((frames, d, count, 1), float(d), **on_cpu)
    lengths = torch.distributions.Chi2(degrees).sample().sqrt()
    half = (lengths * axes.movedim(-1, 1)).flatten(0, 1)  # an axis is a column
    return torch.cat([half, -half])


def _scores(posterior: Posterior, u: Tensor, gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Return log p(x, u), `(K, B)`, at draws u and, if asked for, its gradient, `(K, B, D)`."""
    values, scores = [], []
    for piece in pieces(u):
        with torch.set_grad_enabled(gradient):
            at = piece.detach().requires_grad_(gradient)
            value = posterior.log_joint(at)
            if gradient:
                scores.append(torch.autograd.grad(value.sum(), at)[0])
        values.append(value.detach())
    value = to_float64_device(torch.cat(values)).double()
    return value, to_float64_device(torch.cat(scores)).double() if gradient else None


def _regression(white: Tensor, score: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Fit score = -P (e - m) to points e, both `(K, B, D)`, of weights w; return m and P^-1.

    A ridge draws P towards I and P m towards 0, the earlier Gaussian.
    """
    d = white.shape[-1]
    inputs = torch.cat([white, torch.ones_like(white[..., :1])], -1)
    identity = torch.eye(d + 1).to(white)
    gram = torch.einsum("kb,kbi,kbj->bij", w, inputs, inputs) + RIDGE * identity
    right = RIDGE * identity[:, :d] - torch.einsum("kb,kbi,kbj->bij", w, inputs, score)
    solved = torch.linalg.solve(gram, right)  # P, and below it -P m
    slope, offset = solved[:, :d], solved[:, d]
    values, axes = torch.linalg.eigh((slope + slope.mT) / 2)
    values = values.clamp(1 / WIDER, NARROWER)  # no curvature would be no bound
    scatter = axes @ torch.diag_embed(1 / values) @ axes.mT
    shift = -torch.einsum("bij,bj->bi", scatter, offset)
    length = shift.norm(dim=-1, keepdim=True)
    return shift * (STEP / length.clamp(min=STEP)), scatter
