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
        if not len(rows):
            continue
        for _ in range(ROUNDS):
            now = loc[rows, c], tril[rows, c]
            loc[rows, c], tril[rows, c] = _fitted(posterior.rows(rows), *now, proposal.like, frames)
    return StudentMixture(loc, tril, log_weights, proposal.like)


def _fitted(
    posterior: Posterior, loc: Tensor, tril: Tensor, like: Tensor, frames: int
) -> tuple[Tensor, Tensor]:
    """Return the Gaussians N(loc, tril tril'), `(B, D)` and `(B, D, D)`, after one regression.

    Draws are weighted by the root of p(x, u) over the Gaussian's density, so that those count more
    that are likely under the posterior; no weight is above the root of their number.
    """
    white = _normal_pairs(frames, *loc.shape).to(loc)
    u = loc + torch.einsum("bij,kbj->kbi", tril, white)
    value, score = (to_float64_device(t).double() for t in _scores(posterior, u.to(like)))
    score = torch.einsum("kbi,bij->kbj", score, tril)  # with respect to `white`
    w = len(white) * torch.softmax((value + white.square().sum(-1) / 2) / 2, 0)
    w = w.clamp(max=len(white) ** 0.5)
    shift, scatter = _regression(white, score, w / w.mean(0))
    return loc + torch.einsum("bij,bj->bi", tril, shift), tril @ torch.linalg.cholesky(scatter)


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


def _scores(posterior: Posterior, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p(x, u) and its gradient at draws u, `(K, B)` and `(K, B, D)`."""
    values, scores = [], []
    for piece in pieces(u):
        with torch.enable_grad():
            at = piece.detach().requires_grad_()
            value = posterior.log_joint(at)
            scores.append(torch.autograd.grad(value.sum(), at)[0])
        values.append(value.detach())
    return torch.cat(values), torch.cat(scores)


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
