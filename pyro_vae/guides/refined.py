"""The refined guide: for each image a proposal of its own, fitted to its posterior.

An amortised guide locates the posterior by one pass of an encoder, and importance sampling pays for
its errors. The refined guide starts from it and, for all images of a batch at once,

1. climbs to modes of p(z | x) by Newton's method (`pyro_vae.guides.laplace`), from the guide's mean
   and from the best of candidates that the images share (`pyro_vae.guides.starts`);
2. places at each mode a Student-t distribution with the curvature there (Laplace's approximation;
   `pyro_vae.guides.gauss_newton`);
3. in more than 10 dimensions, fits these to gradients at a few draws
   (`pyro_vae.guides.score_matching`);
4. draws from their mixture. Images whose weights do not pass the k-hat rule go on: the mixture's
   weights, locations and scatters are refitted to the importance weights of all draws so far, and
   in more than 10 dimensions to gradients again, in several rounds (`pyro_vae.guides.adaptive`).

Then the proposal is fixed, and the latents are sampled from it as from any guide. The draws of the
fit are not used again, so an estimate of p(x) by a given number of samples stays unbiased.

Neither k-hat nor a standard error can tell of a mode that no draw has met. Above 10 dimensions
modes are climbed to from the guide's mean alone, unless `num_starts` asks for more.

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

import math
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
from pyro_vae.guides.draws import DOUBTFUL, to_accuracy
from pyro_vae.guides.gauss_newton import derivatives_of
from pyro_vae.guides.laplace import laplace, newton_ascent
from pyro_vae.guides.posterior import LogJoint, Posterior
from pyro_vae.guides.score_matching import FEW, score_matching
from pyro_vae.guides.starts import starts
from pyro_vae.guides.student import StudentMixture
from pyro_vae.likelihood.coordinates import (
    Coordinate,
    coordinates_of,
    from_latents,
    is_discrete,
    to_latents,
)
from pyro_vae.likelihood.estimate import Estimate, exact, sum_of
from pyro_vae.likelihood.masking import MaskedModel, masked_guide
from pyro_vae.likelihood.refusals import check_names, check_shape
from pyro_vae.likelihood.sites import Site, run
from pyro_vae.likelihood.traces import set_up
from pyro_vae.networks.precision import resolve_precision, return_to, to_float64_device
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
        num_starts: modes sought for each image, the first from the guide's mean. By default 20 / d,
            at least 1, for d latent numbers: in few dimensions draws of the prior find modes that
            the guide misses; in many they find none.
        newton_steps: Newton steps to each mode.
        samples_per_round: draws per image in each round of adaptive importance sampling, of which
            an image takes as many as it needs. By default 250, 500, 1000 and 2000.
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
        newton_steps: int = 3,
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
        posteriors, discrete, values = self._posteriors([x, *labels])
        coordinates = posteriors[0].coordinates
        # a k-hat that is well below the rule's, since the draws to come are not those of the fit
        proposals = [self._adapted(posterior, DOUBTFUL)[0] for posterior in posteriors]
        if values is None:
            return Fitted(coordinates, proposals)
        masses = [
            _log_mass(posterior.log_joint, proposal, x)
            for posterior, proposal in zip(posteriors, proposals, strict=True)
        ]
        # a value that the fits make too little of is drawn all the same
        probs = 0.99 * torch.softmax(torch.stack(masses, -1), -1) + 0.01 / len(values)
        return Fitted(coordinates, proposals, discrete, Values(values, return_to(x, probs)))

    def to_accuracy(self, batch: list[Tensor], se: float, most: int) -> Estimate:
        """Estimate log p(x) of each image until its standard error is at most `se`, trusted.

        No estimate is of more than `most` draws, for each value of a discrete latent, over which
        the sum is exact.
        """
        posteriors, _, values = self._posteriors(batch)
        parts = []
        for posterior in posteriors:
            proposal, fitted = self._adapted(posterior)
            with torch.no_grad():
                if proposal is not None:
                    fitted = to_accuracy(posterior, proposal, fitted, se, most)
            parts.append(fitted)
        return parts[0] if values is None else sum_of(parts, [0.0] * len(parts))

    def _posteriors(self, batch: list[Tensor]) -> tuple[list[Posterior], str, Tensor | None]:
        """Return the images' posterior; of a discrete latent one for each value, and these."""
        set_up(self.guide, batch)
        coordinates, discrete = _latents_of(self.model, batch)
        if discrete is None and not coordinates:
            raise InputError("the model samples no latent: there is nothing to fit")
        if discrete is None:
            return [Posterior(self.model, batch, coordinates, {})], "", None
        values = _values_of(discrete)
        held = [value.expand(len(batch[0]), *value.shape) for value in values]
        posteriors = [
            Posterior(self.model, batch, coordinates, {discrete.name: each}) for each in held
        ]
        return posteriors, discrete.name, values

    def _adapted(
        self, posterior: Posterior, khat: float = math.inf
    ) -> tuple[StudentMixture | None, Estimate]:
        """Return the proposal for u of each image, and the estimate by the draws of its fit.

        Where there is nothing continuous there is no proposal, and log p(x) is exact.
        """
        if not posterior.coordinates:
            log_p = _log_mass(posterior.log_joint, None, posterior.batch[0])
            return None, exact(log_p.cpu().numpy())
        guide = poutine.condition(self.guide, data=posterior.held)
        mean = _guide_mean(guide, posterior.batch, posterior.coordinates)
        d, log_p = mean.shape[-1], posterior.log_joint
        rounds = self.samples_per_round or (250, 500, 1000, 2000)
        precision = resolve_precision(self.precision, mean.device.type)
        with torch.no_grad():
            u = starts(posterior, mean, self.num_starts or max(1, 20 // d))
        derivatives = derivatives_of(posterior)
        modes = newton_ascent(log_p, u, self.newton_steps, derivatives)
        with torch.no_grad():
            proposal = laplace(log_p, modes, derivatives)
            if d > FEW:
                proposal = score_matching(posterior, proposal)
            return adaptive_importance_sampling(posterior, proposal, rounds, precision, khat)


def refined_for(model: Program, guide: Program) -> Refined:
    """Return the refined guide of `model` that starts from `guide`.

    One that is refined already keeps its settings, and is fitted to `model` whatever it was for.
    """
    if not isinstance(guide, Refined):
        return Refined(model, guide)
    refined = copy(guide)
    refined.model = model
    return refined


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
