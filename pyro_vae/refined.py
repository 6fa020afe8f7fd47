"""The refined guide: for each image a proposal of its own, fitted to its posterior.

An amortised guide has one pass of an encoder to say where the posterior lies, and importance
sampling pays for what it gets wrong. This guide starts from the amortised one and, for all images
of a batch at once,

1. climbs from its mean, and from the best of some draws of the prior, to modes of p(z | x) by
   Newton's method;
2. takes at each mode a Student-t distribution with the curvature there (Laplace's approximation);
3. draws from the mixture of these and refits weights, means and covariances to the importance
   weights of all draws so far, several times (adaptive multiple importance sampling).

It is then fixed, and samples "z" like any guide: what it drew to fit itself is not used again, so
that the estimate of p(x) stays unbiased.

References:
    Cornuet, Marin, Mira, Robert (2012), Adaptive Multiple Importance Sampling, Scand. J. Stat. 39.
    Cappe, Douc, Guillin, Marin, Robert (2008), Adaptive importance sampling in general mixture
    classes, Statistics and Computing 18 (the responsibility-weighted refit).
    Ionides (2008), Truncated importance sampling, JCGS 17.
"""

import math
from collections.abc import Callable

import pyro
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from pyro_vae.errors import InputError, check_counts, checked
from pyro_vae.importance import Program, chunk_of, sample_sites, score
from pyro_vae.networks import resolve_precision, unrounded

Score = Callable[[Tensor], Tensor]  # z, (K, B, d), to log p(x, z), (K, B)

# Each component is itself a mixture of t distributions around one location: (share, degrees of
# freedom, factor on the scale). The first fits the bulk; the others, wider and heavier in their
# tails, keep the weights bounded where the posterior is wider than its fit.
RADIAL = ((0.6, 30.0, 1.0), (0.3, 15.0, 1.15), (0.1, 4.0, 1.5))


class StudentMixture(TorchDistribution):
    """A mixture of C elliptical components on R^d for each of B images.

    Args:
        loc: locations, `(B, C, d)`.
        scale_tril: lower Cholesky factors of the scatter matrices, `(B, C, d, d)`.
        log_share: log mixture weights, `(B, C)`; -inf switches a component off.
        dtype: of the samples. Parameters and densities are kept in float64, since scatter matrices
            span many orders of magnitude; a density is always that of the sample as rounded.
    """

    arg_constraints: dict = {}  # noqa: RUF012  (the name and type that torch asks for)
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, loc: Tensor, scale_tril: Tensor, log_share: Tensor, dtype: torch.dtype):
        self.loc, self.scale_tril, self.log_share = loc, scale_tril, log_share
        self.dtype = dtype
        self.inverse = torch.linalg.inv(scale_tril)
        self.log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # (B, C)
        super().__init__(loc.shape[:1], loc.shape[-1:], validate_args=False)

    def component_log_prob(self, value: Tensor) -> Tensor:
        """log of share times density of each component at `value`, `(*, B, d)`: `(*, B, C)`."""
        d = self.loc.shape[-1]
        parts = []
        for c in range(self.loc.shape[1]):
            apart = value.double() - self.loc[:, c]
            white = torch.einsum("bij,...bj->...bi", self.inverse[:, c], apart)
            radius = white.square().sum(-1)
            parts.append(torch.stack([_log_t(radius, d, *radial) for radial in RADIAL]))
        densities = torch.stack(parts, -1).logsumexp(0)  # (*, B, C)
        return self.log_share + densities - self.log_det

    def log_prob(self, value: Tensor) -> Tensor:
        """log density at `value`, `(*, B, d)`: `(*, B)`."""
        return self.component_log_prob(value).logsumexp(-1)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Draws `(*sample_shape, B, d)`."""
        shape = (*sample_shape, *self.batch_shape)
        chosen = torch.distributions.Categorical(logits=self.log_share).sample(sample_shape)
        shares, degrees, factors = torch.tensor(RADIAL).to(self.loc).T
        radial = torch.multinomial(shares, math.prod(shape), replacement=True).view(shape)
        df, factor = degrees[radial], factors[radial]
        chi2 = torch.distributions.Chi2(df).sample()
        noise = torch.randn(*shape, self.loc.shape[-1]).to(self.loc)
        noise = noise * (factor * (df / chi2).sqrt())[..., None]
        value = torch.empty_like(noise)
        for c in range(self.loc.shape[1]):
            drawn = self.loc[:, c] + torch.einsum("bij,...bj->...bi", self.scale_tril[:, c], noise)
            value = torch.where((chosen == c)[..., None], drawn, value)
        return value.to(self.dtype)


def _log_t(radius: Tensor, d: int, share: float, df: float, factor: float) -> Tensor:
    """log of share times the d-dimensional t density at squared radius `radius` (unit scatter)."""
    constant = (
        math.log(share)
        + math.lgamma((df + d) / 2)
        - math.lgamma(df / 2)
        - d / 2 * math.log(df * math.pi * factor**2)
    )
    return constant - (df + d) / 2 * torch.log1p(radius / (df * factor**2))


class Refined:
    """The refined guide of `model`, started from any `guide` with one real latent vector an image.

    Args:
        starts: modes sought for each image; the first from the guide's mean. By default 40 / d, at
            least 2: in few dimensions draws of the prior find modes that the guide does not know,
            in many they find none, and each costs d times a gradient.
        climbs: Newton steps to each mode.
        rounds: draws an image in each round of adaptive importance sampling. By default 250, 500
            and 1000, and 1000 more where d > 10, for the d (d + 1) / 2 entries of a covariance.
        precision: of the model's matrix products in these rounds, which are most of the work:
            "float32", "bfloat16", or by default whichever is faster here
            (`networks.resolve_precision`). Whatever the fit was rounded to, the proposal is sampled
            and scored as it is, and the model in full: the estimate stays unbiased.
    """

    @checked
    def __init__(
        self,
        model: Program,
        guide: Program,
        *,
        starts: int | None = None,
        climbs: int = 4,
        rounds: tuple[int, ...] | None = None,
        precision: str = "auto",
    ):
        if starts is not None:
            check_counts(starts=starts)
        check_counts(0, climbs=climbs)
        for draws in rounds or ():
            check_counts(2, rounds=draws)
        resolve_precision(precision)
        self.model, self.guide, self.precision = model, guide, precision
        self.starts, self.climbs, self.rounds = starts, climbs, rounds

    def __call__(self, x: Tensor, *labels: Tensor) -> None:
        with poutine.block():  # the fit's own sites are no sites of the guide
            name, proposal = self.fit(x, *labels)
        with pyro.plate("data", len(x)):
            pyro.sample(name, proposal)

    def fit(self, x: Tensor, *labels: Tensor) -> tuple[str, StudentMixture]:
        """The latent site's name, and the proposal fitted to each image's posterior."""
        rows = [x, *labels]
        name, mean = _guide_mean(self.guide, rows)

        def log_joint(z: Tensor) -> Tensor:
            return score(self.model, rows, {name: z})

        d = mean.shape[-1]
        starts = self.starts or max(2, 40 // d)
        rounds = (250, 500, 1000) + (1000,) * (d > 10) if self.rounds is None else self.rounds
        with torch.no_grad():
            z = torch.stack([mean, *_best_prior_draws(self.model, rows, name, starts - 1)])
        proposal = laplace(log_joint, climb(log_joint, z, self.climbs))

        device = x.device.type
        rounded = resolve_precision(self.precision, device) == "bfloat16"

        def rounded_log_joint(z: Tensor) -> Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=rounded):
                return log_joint(z)

        with torch.no_grad():
            return name, adapt(rounded_log_joint, proposal, rounds)


def _guide_mean(guide: Program, rows: list[Tensor]) -> tuple[str, Tensor]:
    """The name of the guide's latent site and its mean, `(B, d)`; a draw where it has no mean."""
    sites = [site for site in sample_sites(guide, rows) if not site["is_observed"]]
    if len(sites) != 1 or sites[0]["value"].dim() != 2:
        shapes = {site["name"]: tuple(site["value"].shape) for site in sites}
        raise InputError(
            f"the refined guide needs one latent site of shape (B, d), not {shapes}: "
            "join the latents into one vector"
        )
    name, drawn = sites[0]["name"], sites[0]["value"]
    try:
        mean = sites[0]["fn"].mean
    except NotImplementedError:  # a flow, for instance
        return name, drawn
    return name, torch.where(mean.isfinite(), mean, drawn)  # a Cauchy's is not


def _best_prior_draws(model: Program, rows: list[Tensor], name: str, count: int) -> list[Tensor]:
    """Of 20 draws of the prior per start wanted, the `count` with the highest log p(x, z)."""
    if count == 0:
        return []
    draws, values = [], []
    for _ in range(20 * count):
        sites = sample_sites(model, rows)
        draws.append(next(site["value"] for site in sites if site["name"] == name))
        values.append(sum(site["log_prob"] for site in sites))
    best = torch.stack(values).topk(count, dim=0).indices  # (count, B)
    return list(torch.stack(draws).gather(0, best[..., None].expand(-1, -1, draws[0].shape[-1])))


def curvature(log_joint: Score, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x, z), its gradient `(K, B, d)` and minus its Hessian `(K, B, d, d)`, made positive.

    Where minus the Hessian is not positive definite its eigenvalues are replaced by their absolute
    values, at least a ten-thousandth of the largest: a direction of ascent, and a proper scale.
    """
    with torch.enable_grad(), unrounded(z):
        z = z.detach().requires_grad_()
        value = log_joint(z)
        (gradient,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        rows = [
            torch.autograd.grad(gradient[..., i].sum(), z, retain_graph=True)[0]
            for i in range(z.shape[-1])
        ]
    precision = -torch.stack(rows, -2)
    eigenvalues, vectors = torch.linalg.eigh((precision + precision.mT) / 2)
    eigenvalues = eigenvalues.abs()
    floor = 1e-4 * eigenvalues.amax(-1, keepdim=True)
    eigenvalues = torch.maximum(eigenvalues, floor.clamp(min=1e-6))
    precision = vectors @ torch.diag_embed(eigenvalues) @ vectors.mT
    return value.detach(), gradient.detach(), precision


def climb(log_joint: Score, z: Tensor, steps: int) -> Tensor:
    """`z`, `(K, B, d)`, after Newton steps up log p(x, z); no step ever goes down."""
    for _ in range(steps):
        value, gradient, precision = curvature(log_joint, z)
        direction = torch.linalg.solve(precision, gradient)
        with torch.no_grad():
            for length in (1.0, 0.5, 0.2, 0.05):
                trial = z + length * direction
                trial_value = log_joint(trial)
                better = trial_value > value
                z = torch.where(better[..., None], trial, z)
                value = torch.where(better, trial_value, value)
    return z


def laplace(log_joint: Score, modes: Tensor) -> StudentMixture:
    """A mixture with the modes `(C, B, d)` as locations and the curvature there as scatter.

    The shares are the masses that Laplace's approximation gives the modes; of modes within one
    another's reach only the heaviest is kept.
    """
    value, _, precision = (tensor.double() for tensor in curvature(log_joint, modes))
    scatter = torch.linalg.inv(precision)
    mass = value - 0.5 * torch.linalg.slogdet(precision).logabsdet  # (C, B)
    count, d = len(modes), modes.shape[-1]
    for i in range(count):
        for j in range(count):
            apart = (modes[i] - modes[j]).double()
            near = torch.einsum("bi,bij,bj->b", apart, precision[j], apart) < d
            beaten = (mass[i] < mass[j]) | ((mass[i] == mass[j]) & (i > j))
            mass[i] = torch.where(near & beaten, -math.inf, mass[i])
    return StudentMixture(
        modes.double().transpose(0, 1),
        torch.linalg.cholesky(scatter).transpose(0, 1),
        torch.log_softmax(mass, 0).T,
        modes.dtype,
    )


def adapt(log_joint: Score, proposal: StudentMixture, rounds: tuple[int, ...]) -> StudentMixture:
    """`proposal` after rounds of adaptive multiple importance sampling.

    Each round adds its draws to all earlier ones, weighs them by p(x, z) over the mixture of all
    proposals so far, truncates the weights at sqrt(N) times their mean, and moves each component to
    its weighted mean and covariance. These count as much as there are effective samples behind
    them, against as many of the earlier covariance as it has free entries.
    """
    proposals, draws, values = [], [], []
    for count in rounds:
        proposals.append(proposal)
        draws.append(proposal.sample((count,)))
        values.append(_in_pieces(log_joint, draws[-1]).double())
        z = torch.cat(draws)  # (N, B, d)
        log_q = torch.stack(
            [p.log_prob(z) + math.log(n / len(z)) for p, n in zip(proposals, rounds, strict=False)]
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
    share = torch.where(proposal.log_share.isinf(), 0.0, share.clamp(min=0.01))
    return StudentMixture(
        torch.stack(locs, 1),
        torch.stack(trils, 1),
        (share / share.sum(-1, keepdim=True)).log(),
        proposal.dtype,
    )


def _in_pieces(log_joint: Score, z: Tensor) -> Tensor:
    """`log_joint` of all draws, as many at a time as the device does fastest."""
    return torch.cat([log_joint(piece) for piece in z.split(max(1, chunk_of(z) // z.shape[1]))])
