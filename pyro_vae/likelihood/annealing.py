"""Annealed importance sampling with both bounds: a second opinion on log p(x).

From a proposal q to the posterior through T + 1 densities

    log f_t(z) = (1 - b_t) log q(z | x) + b_t log p(x, z),    0 = b_0 < ... < b_T = 1,

forward chains start at z ~ q. At each step they gain (b_{t+1} - b_t) (log p(x, z) - log q(z | x))
and then move by Hamiltonian Monte Carlo (HMC), which leaves f_{t+1} invariant. The mean of
exp(gain) is unbiased for p(x), so the log of the mean over chains is a stochastic lower bound of
log p(x).

An image simulated from the model comes with its latent, one exact draw of its posterior. A reverse
chain starts there and runs with falling b. Its E[exp(gain)] is 1 / p(x), which gives a stochastic
upper bound. Together the bounds enclose log p(x) (bidirectional Monte Carlo).

References:
    Neal (2001), Annealed importance sampling, Statistics and Computing 11.
    Grosse, Ghahramani, Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte
    Carlo, arXiv:1511.02543.
    Wu, Burda, Salakhutdinov, Grosse (2017), On the quantitative analysis of decoder-based
    generative models, ICLR.
"""

from collections.abc import Callable
from copy import copy
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_vae.complaints import one_line_refusals
from pyro_vae.data.conversion import Images, Labels, as_batch, check_batch
from pyro_vae.errors import InputError, check_counts, checked
from pyro_vae.likelihood.coordinates import (
    Coordinate,
    coordinates_of,
    from_latents,
    is_discrete,
    to_latents,
)
from pyro_vae.likelihood.estimate import Estimate, estimate
from pyro_vae.likelihood.importance import images_at_a_time
from pyro_vae.likelihood.refusals import check_densities, check_names, is_point
from pyro_vae.likelihood.traces import (
    batches,
    log_joint,
    set_up,
    simulate,
    sites_at,
    sites_of_samples,
)
from pyro_vae.programs import Program, in_evaluation_mode
from pyro_vae.progress import Progress, progress_bar
from pyro_vae.seeds import seeded, without_inference_mode

LEAPS = 5  # leapfrog steps of one HMC move
CHAINS = 500  # chains that pass through the model at a time: about what a CPU's cache holds


class Bounds(NamedTuple):
    """Stochastic bounds of log p(x) of B simulated images, nats per image.

    Each holds in expectation; a single run may pass the exact value by its standard error.
    """

    lower: Estimate  # of log p(x), from forward chains
    # of -log p(x), from reverse chains: the upper bound is -upper.value. The chains of an image
    # share their start, so its standard error is too small
    upper: Estimate
    images: Tensor  # the simulated images, `(B, ...)`


class AnnealingPath(NamedTuple):
    """The ends of the path, q and p, in unconstrained coordinates u of the latents, `(K, B, D)`.

    The coordinates are those of the sites that the guide draws; see `coordinates`. Of a guide with
    auxiliary sites these are drawn, and the latents computed from them.
    """

    coordinates: list[Coordinate]
    draw: Callable[[int], Tensor]  # K draws of q
    ends: Callable[[Tensor], Tensor]  # u to log q(u) and log p(x, u), (2, K, B)
    scale: Tensor  # standard deviations of q, (B, D): the metric of HMC
    auxiliary: list[str]  # the names of the guide's auxiliary sites


@checked
@one_line_refusals
@in_evaluation_mode
def annealed_log_likelihood(
    model: Program,
    guide: Program | None,
    x: Images,
    *labels: Labels,
    num_chains: int = 16,
    num_steps: int = 100,
    seed: int = 0,
    progress: Progress = None,
) -> Estimate:
    """Estimate log p(x) of each image by forward annealing: a stochastic lower bound, nats.

    Chains start from `guide`, or from the prior where it is None, and take `num_steps` steps. The
    result is an importance sampling estimate with the chains as its samples.

    >>> from pyro_vae import LinearGaussian, annealed_log_likelihood
    >>> problem = LinearGaussian()  # whose log p(x) is known
    >>> x = problem.data(2)
    >>> result = annealed_log_likelihood(problem.model, problem.wide_guide, x, num_steps=5)
    >>> bool((abs(result.value - problem.log_likelihood(x).numpy()) < 5 * result.se).all())
    True
    """
    betas = _schedule(num_chains, num_steps)
    x, *labels = as_batch(model, x, *labels, progress=progress)
    check_batch(model, guide, x, *labels)
    size = max(1, CHAINS // num_chains)
    if guide is not None:
        size = images_at_a_time(guide, [x, *labels], size)
    blocks = batches([x, *labels], size)
    with seeded(seed, x), progress_bar(progress, 2 * len(blocks) * num_steps, "step") as bar:
        log_w = [
            _forward(_path(model, guide, batch), num_chains, betas, bar)[0] for batch in blocks
        ]
    return estimate(torch.cat(log_w, 1))


@checked
@one_line_refusals
@in_evaluation_mode
def bidirectional_bounds(
    model: Program,
    guide: Program | None,
    images: Tensor,
    *labels: Tensor,
    num_chains: int = 16,
    num_steps: int = 100,
    seed: int = 0,
    progress: Progress = None,
) -> Bounds:
    """Bound log p(x) from both sides, for as many images simulated from the model as in `images`.

    Of `images` only the shape and type are used. The reverse chains of an image all start from the
    latent that it was simulated with.
    """
    betas = _schedule(num_chains, num_steps)
    forwards, backs = [], []
    with seeded(seed, images):
        x, latents = simulate(model, images, *labels)
        blocks = batches([x, *labels, *latents.values()], max(1, CHAINS // num_chains))
        with progress_bar(progress, 3 * len(blocks) * num_steps, "step") as bar:
            for block in blocks:
                batch, z = block[: 1 + len(labels)], block[1 + len(labels) :]
                path = _path(model, guide, batch)
                _check_starts(path, latents)
                forward, steps = _forward(path, num_chains, betas, bar)
                exact = from_latents(path.coordinates, dict(zip(latents, z, strict=True)))
                start = exact.expand(num_chains, *exact.shape)
                back, _ = _anneal(path, start, betas.flip(0), steps.flip(0), bar)
                forwards.append(forward)
                backs.append(back)
    return Bounds(estimate(torch.cat(forwards, 1)), estimate(torch.cat(backs, 1)), x)


def _check_starts(path: AnnealingPath, latents: dict[str, Tensor]) -> None:
    """Raise InputError unless the path's coordinates are those of the model's latents."""
    if path.auxiliary:
        raise InputError(
            f"the guide draws its latents by way of auxiliary sites {path.auxiliary}, at which "
            "reverse chains cannot start: give a guide that samples the latents themselves, or "
            "None to start at the prior"
        )
    check_names([c.name for c in path.coordinates], latents)


def _forward(
    path: AnnealingPath, num_chains: int, betas: Tensor, bar: tqdm
) -> tuple[Tensor, Tensor]:
    """Return log weights `(K, B)` of forward chains, and their step sizes from a pilot run."""
    _, steps = _anneal(path, path.draw(num_chains), betas, None, bar)
    log_w, _ = _anneal(path, path.draw(num_chains), betas, steps, bar)
    return log_w, steps


@torch.no_grad()
def _path(model: Program, guide: Program | None, batch: list[Tensor]) -> AnnealingPath:
    batch = without_inference_mode(batch)
    if hasattr(guide, "fixed"):  # a refined guide is fitted once
        guide = guide.fixed(*batch)
    program = guide if guide is not None else model
    set_up(program, batch)
    sites = [site for site in sites_of_samples(program, batch, 1) if not site.observed]
    check_densities(sites, lambda: sites_of_samples(program, batch, 2))
    drawn = {site.name: site for site in sites if not is_point(site.fn)}
    if not drawn:
        raise InputError("the guide samples nothing: it must sample the model's latent sites")
    for name, site in drawn.items():
        if is_discrete(site):
            raise InputError(
                f"latent {name!r} is discrete, and annealing moves by gradients: give it to the "
                "programs as an argument, or use Refined(model, guide) with log_likelihood"
            )
    coordinates = coordinates_of(program, batch, list(drawn))
    hidden = sorted(site.name for site in sites if site.auxiliary)
    # of one site the distribution is known: the guide, and its encoder, need not run again
    fn = sites[0].fn if len(sites) == 1 else None

    def draw(num_chains: int) -> Tensor:
        if fn is not None:
            # expanded: asked for a shape, Pyro's MixtureOfDiagNormals draws from the wrong image's
            # components; copied: Pyro expands some distributions in place
            z = copy(fn).expand((num_chains, *fn.batch_shape)).sample()
            return from_latents(coordinates, {sites[0].name: z})
        sampled = sites_of_samples(program, batch, num_chains)
        return from_latents(coordinates, {site.name: site.value for site in sampled})

    def ends(u: Tensor) -> Tensor:
        within = _within_supports(coordinates, u)
        u = torch.where(within[..., None], u, 0)
        values, log_det = to_latents(coordinates, u)
        if fn is not None:
            log_q, points = fn.log_prob(values[sites[0].name]), []
        else:
            there = sites_at(program, batch, values)
            log_q = sum(site.log_prob for site in there if site.name in values)
            points = [site for site in there if not site.observed]
        # log_prob of a point computed from u is minus the log of the Jacobian's determinant
        log_p_det = log_det - sum(site.log_prob for site in points)
        latents = values | {site.name: site.value for site in points}
        latents = {name: value for name, value in latents.items() if name not in hidden}
        log_p = log_joint(model, batch, latents, observes=True)
        return torch.stack([log_q + log_det, log_p + log_p_det]).where(within, -torch.inf)

    return AnnealingPath(coordinates, draw, ends, draw(500).std(0), hidden)


@torch.no_grad()
def _within_supports(coordinates: list[Coordinate], u: Tensor) -> Tensor:
    """Whether T(u) is finite and in the support, `(K, B)`: far out, exp(u) is 0 or infinite.

    A move that ends elsewhere is rejected.
    """
    latents, within = to_latents(coordinates, u)[0], u.isfinite().all(-1)
    for c in coordinates:
        value = latents[c.name]
        finite = (
            value.isfinite().flatten(u.dim() - 1) if c.event_dim else value.isfinite()[..., None]
        )
        within = (
            within
            & finite.all(-1)
            & c.transform.codomain.check(value).reshape(*within.shape, -1).all(-1)
        )
    return within


def _schedule(num_chains: int, num_steps: int) -> Tensor:
    """Return b_0 = 0 to b_T = 1 along a sigmoid: small steps at both ends (Wu et al., sec. 4.2)."""
    check_counts(num_chains=num_chains, num_steps=num_steps)
    ticks = torch.linspace(-4, 4, num_steps + 1, dtype=torch.float32, device="cpu")
    sigmoid = torch.sigmoid(ticks.double())
    return (sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])


def _anneal(
    path: AnnealingPath, z: Tensor, betas: Tensor, steps: Tensor | None, bar: tqdm
) -> tuple[Tensor, Tensor]:
    """Run chains from `z` along `betas`; return log weights `(K, B)` and step sizes `(T, B)`.

    Fixed `steps` leave each density exactly invariant. `steps=None` adapts to 75% acceptance, which
    breaks invariance: for pilot runs only.
    """
    gain = torch.zeros(z.shape[:-1], dtype=torch.float64, device="cpu")
    step = path.scale.new_full(path.scale.shape[:1], 0.3)
    used = []
    ends, gradients = _evaluate(path, z)
    pairs = list(pairwise(betas.tolist()))
    for t, (now, then) in enumerate(pairs):
        bar.update()
        log_q, log_p = ends.cpu().double()
        gain += (then - now) * (log_p - log_q)
        if t + 1 == len(pairs):
            break  # a last move would change no weight
        if steps is not None:
            step = steps[t]
        z, ends, gradients, accepted = _hmc(path, z, ends, gradients, then, step)
        used.append(step)
        if steps is None:
            step = (step * torch.exp(0.5 * (accepted.mean(0) - 0.75))).clamp(1e-3, 2.0)
    return gain, torch.stack(used) if used else step[None]


def _evaluate(path: AnnealingPath, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return log q and log p at z, `(2, K, B)`, and their gradients, `(2, K, B, d)`."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        ends = path.ends(z)
        gradients = [
            torch.autograd.grad(end.sum(), z, retain_graph=i == 0)[0] for i, end in enumerate(ends)
        ]
    return ends.detach(), torch.stack(gradients)


def _hmc(
    path: AnnealingPath, z: Tensor, ends: Tensor, gradients: Tensor, beta: float, step: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Move by HMC with f invariant, log f = (1 - beta) log q + beta log p.

    Returns z, its log q and log p, their gradients, and which chains accepted, `(K, B)`.
    """
    mix = z.new_tensor([1 - beta, beta])
    length = (step[:, None] * path.scale).to(z)  # (B, d)
    momentum = torch.randn_like(z)
    kinetic = momentum.square().sum(-1)
    new_z, new_ends, new_gradients = z, ends, gradients
    for _ in range(LEAPS):
        momentum = momentum + 0.5 * length * torch.einsum("e,ekbd->kbd", mix, new_gradients)
        new_z = new_z + length * momentum
        new_ends, new_gradients = _evaluate(path, new_z)
        momentum = momentum + 0.5 * length * torch.einsum("e,ekbd->kbd", mix, new_gradients)
    rise = torch.einsum("e,ekb->kb", mix.to(ends), new_ends - ends)
    log_accept = rise - 0.5 * (momentum.square().sum(-1) - kinetic)
    accepted = torch.rand_like(log_accept).log() < log_accept  # false for NaN: the chain stays
    chosen = accepted[..., None]
    return (
        torch.where(chosen, new_z, z),
        torch.where(accepted, new_ends, ends),
        torch.where(chosen, new_gradients, gradients),
        accepted.to(z),
    )
