"""The refined guide: for each image a proposal of its own, fitted to its posterior.

An amortised guide locates the posterior by one pass of an encoder, and importance sampling pays for
its errors. The refined guide starts from it and, for all images of a batch at once,

1. climbs to modes of p(z | x) by Newton's method, from the guide's mean and from the best of some
   draws of the prior (`pyro_vae.guides.laplace`);
2. places at each mode a Student-t distribution with the curvature there (Laplace's approximation);
3. draws from the mixture of these and refits its weights, locations and scatters to the importance
   weights of all draws so far, in several rounds (`pyro_vae.guides.adaptive`).

Then the proposal is fixed, and the latents are sampled from it as from any guide. The draws of the
fit are not used again, so the estimate of p(x) stays unbiased.

Several latents, of any shape and support, are fitted as one unconstrained vector
(`pyro_vae.likelihood.coordinates`). For one discrete latent y a proposal is fitted to
p(z | x, y = v) for each of its values v. The guide then draws v in proportion to the estimates of
p(x, y = v) that the fits give.

References:
    Cornuet, Marin, Mira, Robert (2012), Adaptive Multiple Importance Sampling, Scand. J. Stat. 39.
    Cappe, Douc, Guillin, Marin, Robert (2008), Adaptive importance sampling in general mixture
    classes, Statistics and Computing 18 (the responsibility-weighted refit).
    Ionides (2008), Truncated importance sampling, JCGS 17.
"""

from contextlib import suppress
from copy import copy
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_vae.errors import InputError, check_counts, checked
from pyro_vae.guides.adaptive import adaptive_importance_sampling
from pyro_vae.guides.discrete import Chosen, Values
from pyro_vae.guides.laplace import LogJoint, laplace, newton_ascent
from pyro_vae.guides.student import StudentMixture
from pyro_vae.likelihood.coordinates import (
    Coordinate,
    coordinates_of,
    from_latents,
    is_discrete,
    to_latents,
)
from pyro_vae.likelihood.masking import MaskedModel, masked_guide
from pyro_vae.likelihood.refusals import check_names, check_shape
from pyro_vae.likelihood.sites import Site, run
from pyro_vae.likelihood.traces import log_joint, set_up
from pyro_vae.networks.precision import autocast, resolve_precision, return_to, to_float64_device
from pyro_vae.programs import Program, move
from pyro_vae.seeds import seeded


class Refined:
    """The refined guide of `model`, started from any `guide` with the same latents.

    The latents of an image may be several, of any shape and support; one of them may be discrete.

    >>> import torch
    >>> from pyro_vae import Decoder, MeanField, Model, Refined, log_likelihood
    >>> _ = torch.manual_seed(0)
    >>> model = Model(Decoder(latent_dim=2))
    >>> guide = Refined(model, MeanField(model), num_starts=2, samples_per_round=(100, 200))
    >>> log_likelihood(model, guide, torch.zeros(2, 1, 28, 28), num_samples=500).trusted()
    array([ True,  True])

    Args:
        num_starts: modes sought for each image, the first from the guide's mean. By default 40 / d,
            at least 2, for d latent numbers: in few dimensions draws of the prior find modes that
            the guide misses; in many they find none, and a Newton step costs d gradients.
        newton_steps: Newton steps to each mode.
        samples_per_round: draws per image in each round of adaptive importance sampling. By default
            250, 500 and 1000, and where d > 10 another 1000, since a covariance has d (d + 1) / 2
            entries.
        precision: of the model's matrix products in these rounds, which are most of the work:
            "float32", "bfloat16", or "auto" for the faster one here. However the fit is rounded,
            its proposal is sampled and scored as it is, by the model in full precision: the
            estimate stays unbiased.
    """

    @checked
    def __init__(
        self,
        model: Program,
        guide: Program,
        *,
        num_starts: int | None = None,
        newton_steps: int = 4,
        samples_per_round: tuple[int, ...] | None = None,
        precision: str = "auto",
    ):
        if num_starts is not None:
            check_counts(num_starts=num_starts)
        check_counts(0, newton_steps=newton_steps)
        for draws in samples_per_round or ():
            check_counts(2, samples_per_round=draws)
        resolve_precision(precision)
        self.model, self.guide, self.precision = model, guide, precision
        self.num_starts, self.newton_steps = num_starts, newton_steps
        self.samples_per_round = samples_per_round

    def to(self, device: str | torch.device | torch.dtype) -> "Refined":
        """Move the weights of model and guide to a device or dtype, in place."""
        move(device, self.model, self.guide)
        return self

    def masked(self) -> "Refined":
        """Return the refined guide of `(x, seen, *labels)`, fitted to p(z | x_seen)."""
        other = copy(self)
        other.model, other.guide = MaskedModel(self.model), masked_guide(self.guide)
        return other

    takes_samples = True  # what it draws for the fit is not among its sites

    def __call__(self, x: Tensor, *labels: Tensor) -> None:
        """Fit the proposals, and sample each image's latents from them, in the plate "data"."""
        self.fixed(x, *labels)(x, *labels)

    def fixed(self, x: Tensor, *labels: Tensor) -> Program:
        """Return the guide of these images, fitted once: each further run only samples."""
        with poutine.block():  # the fit's own sites are no sites of the guide
            fitted = self.fit(x, *labels)
        return pyro.plate("data", x.shape[0])(lambda *batch: fitted.sample())

    def fit(self, x: Tensor, *labels: Tensor) -> "Fitted":
        """Return the proposals fitted to each image's posterior."""
        batch = [x, *labels]
        set_up(self.guide, batch)
        coordinates, discrete = _latents_of(self.model, batch)
        if discrete is None:
            return Fitted(coordinates, [self._proposal(batch, coordinates, {})])
        values = _values_of(discrete)
        proposals, masses = [], []
        for value in values:
            held = {discrete.name: value.expand(len(x), *value.shape)}
            proposals.append(self._proposal(batch, coordinates, held))
            log_p = self._log_joint(batch, coordinates, held)
            masses.append(_log_mass(log_p, proposals[-1], x))
        # a value that the fits make too little of is drawn all the same
        probs = 0.99 * torch.softmax(torch.stack(masses, -1), -1) + 0.01 / len(values)
        return Fitted(coordinates, proposals, discrete.name, Values(values, return_to(x, probs)))

    def _log_joint(
        self, batch: list[Tensor], coordinates: list[Coordinate], held: dict[str, Tensor]
    ) -> LogJoint:
        """Return log p(x, z) as a function of u, `(K, B, D)`, where z = T(u).

        `held` has a value `(B, ...)` of the discrete latent, if there is one.
        """

        def log_p(u: Tensor) -> Tensor:
            latents, log_det = to_latents(coordinates, u)
            latents |= {name: value.expand(len(u), *value.shape) for name, value in held.items()}
            return log_joint(self.model, batch, latents, observes=True) + log_det

        return log_p

    def _proposal(
        self, batch: list[Tensor], coordinates: list[Coordinate], held: dict[str, Tensor]
    ) -> StudentMixture | None:
        """Return the proposal for u of each image; None where there is nothing continuous."""
        guide, model = (poutine.condition(p, data=held) for p in (self.guide, self.model))
        if not coordinates:
            return None
        mean = _guide_mean(guide, batch, coordinates)
        log_p, d = self._log_joint(batch, coordinates, held), mean.shape[-1]
        num_starts = self.num_starts or max(2, 40 // d)
        samples_per_round = self.samples_per_round
        if samples_per_round is None:
            samples_per_round = (250, 500, 1000) + (1000,) * (d > 10)
        with torch.no_grad():
            u = torch.stack([mean, *_best_prior_draws(model, batch, coordinates, num_starts - 1)])
        proposal = laplace(log_p, newton_ascent(log_p, u, self.newton_steps))

        precision = resolve_precision(self.precision, batch[0].device.type)

        def rounded_log_p(u: Tensor) -> Tensor:
            with autocast(precision, batch[0]):
                return log_p(u)

        with torch.no_grad():
            return adaptive_importance_sampling(rounded_log_p, proposal, samples_per_round)


class Fitted(NamedTuple):
    """What was fitted to the images of a batch."""

    coordinates: list[Coordinate]
    proposals: list[StudentMixture | None]  # for u; one for each value of the discrete latent
    discrete: str = ""  # the name of the discrete latent, if there is one
    values: Values | None = None  # its distribution

    def sample(self) -> None:
        """Sample the latents; a Pyro program, to be run in the plate over the images."""
        q = self.proposals[0]
        if self.values is not None:
            index = self.values.index(pyro.sample(self.discrete, self.values))
            q = Chosen(self.proposals, index) if q is not None else None
        if q is None:
            return
        if len(self.coordinates) == 1 and self.coordinates[0].is_vector:
            pyro.sample(self.coordinates[0].name, q)
            return
        u = pyro.sample("refined", q, infer={"is_auxiliary": True})
        latents, log_det = to_latents(self.coordinates, u)
        for c in self.coordinates:  # the first carries the Jacobian of all
            point = dist.Delta(latents[c.name], log_density=-log_det, event_dim=c.event_dim)
            pyro.sample(c.name, point)
            log_det = torch.zeros_like(log_det)


def _latents_of(model: Program, batch: list[Tensor]) -> tuple[list[Coordinate], Site | None]:
    """Return the coordinates of the model's continuous latents, and its discrete latent if any."""
    with torch.no_grad(), seeded(0, batch[0]):
        latents = [site for site in run(model, batch) if not site.observed]
    discrete = [site for site in latents if is_discrete(site)]
    if len(discrete) > 1:
        names = " and ".join(repr(site.name) for site in discrete)
        raise InputError(
            f"latents {names} are discrete, and the refined guide takes one such: join them into "
            "one, or use log_likelihood with a guide of your own"
        )
    continuous = [site.name for site in latents if not is_discrete(site)]
    return coordinates_of(model, batch, continuous), discrete[0] if discrete else None


def _values_of(site: Site) -> Tensor:
    """Return the values of a discrete latent, `(C, *event)`."""
    try:
        values = site.fn.enumerate_support(expand=False)
    except NotImplementedError as error:
        raise InputError(
            f"latent {site.name!r} is discrete and has no list of values "
            f"({type(site.fn).__name__}): use log_likelihood with a guide of your own"
        ) from error
    return values.reshape(len(values), *site.fn.event_shape)


def _log_mass(log_p: LogJoint, proposal: StudentMixture | None, x: Tensor) -> Tensor:
    """Estimate log p(x, y = v), `(B,)`, by 200 draws of the proposal for u given y = v.

    It is exact where there is no proposal, since nothing is continuous.
    """
    with torch.no_grad():
        if proposal is None:
            return to_float64_device(log_p(x.new_zeros(1, len(x), 0))[0]).double()
        u = proposal.sample((200,))
        log_w = to_float64_device(log_p(u) - proposal.log_prob(u)).double()
    return log_w.logsumexp(0)


class _AtTheMean(Messenger):
    """Replace each draw of a guide by its distribution's mean, where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.means: dict[str, Tensor] = {}
        self.draws: dict[str, Tensor] = {}

    def _pyro_post_sample(self, msg: dict) -> None:
        if msg["is_observed"] or site_is_subsample(msg):
            return
        self.draws[msg["name"]] = msg["value"]
        with suppress(NotImplementedError):  # a flow has none, for instance
            mean = msg["fn"].mean
            msg["value"] = torch.where(mean.isfinite(), mean, msg["value"])  # a Cauchy's is not
        if not msg["infer"].get("is_auxiliary"):
            self.means[msg["name"]] = msg["value"]


def _guide_mean(guide: Program, batch: list[Tensor], coordinates: list[Coordinate]) -> Tensor:
    """Return u at the guide's mean, `(B, D)`, or at a draw where the guide has no mean."""
    with torch.no_grad(), _AtTheMean() as at:
        guide(*batch)
    check_names(at.means, [c.name for c in coordinates])
    for c in coordinates:
        check_shape(c.name, at.means[c.name].shape[1:], c.transform.forward_shape(c.shape))
    mean, drawn = (from_latents(coordinates, values) for values in (at.means, at.draws))
    return torch.where(mean.isfinite(), mean, drawn)  # on the edge of a support


def _best_prior_draws(
    model: Program, batch: list[Tensor], coordinates: list[Coordinate], count: int
) -> list[Tensor]:
    """Return, of 20 `count` draws of the prior, u of the `count` with the highest log p(x, z)."""
    if count == 0:
        return []
    draws, values = [], []
    for _ in range(20 * count):
        sites = run(model, batch)
        draws.append(from_latents(coordinates, {site.name: site.value for site in sites}))
        values.append(sum(site.log_prob for site in sites))
    best = torch.stack(values).topk(count, dim=0).indices  # (count, B)
    return list(torch.stack(draws).gather(0, best[..., None].expand(-1, -1, draws[0].shape[-1])))
