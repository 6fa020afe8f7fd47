"""Bounds on log p(x) to train by, each with a name of one word, and their gradients.

    elbo  E mean_k log w_k                   its usual gradient
    stl   the same bound                     its path gradient: no noise where q = p(z | x)
    iwae  E log(1/K sum_k w_k)               its usual gradient, whose encoder's part drowns in
                                             noise as K grows
    dreg  the same bound                     its doubly reparameterised gradient, which does not

log w_k = log p(x, z_k) - log q(z_k | x) of an image, nats, with z_k ~ q(z | x), k = 1, ..., K.

The usual gradient by the guide's weights phi goes two ways: by the path, from phi to the latent z
to log w, and directly, -d/dphi log q(z | x) at fixed z. What the direct way adds to the ELBO's
gradient is zero on average, and noise; `stl` leaves it out (Roeder, Wu, Duvenaud 2017, Sticking the
landing). To IWAE's gradient it adds something, whose average is, by reparameterising once more, one
along the path; `dreg` takes that instead (Tucker et al. 2019, Doubly reparameterized gradient
estimators for Monte Carlo objectives). With the shares r_k = w_k / sum_j w_j:

    stl   sum_k 1/K   dlog w_k/dz_k dz_k/dphi
    dreg  sum_k r_k^2 dlog w_k/dz_k dz_k/dphi

By the model's weights theta the gradients are the usual ones: sum_k 1/K dlog p(x, z_k)/dtheta, and
sum_k r_k dlog p(x, z_k)/dtheta.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO, RenyiELBO, Trace_ELBO
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import get_dependent_plate_dims, torch_backward
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_vae.complaints import refused_by_distribution
from pyro_vae.errors import InputError, check_choice, check_counts, checked
from pyro_vae.likelihood.refusals import is_point
from pyro_vae.programs import Program


class IWAE(RenyiELBO):
    """Pyro's IWAE bound of K particles in one pass, refused where its gradient would be wrong.

    Burda, Grosse, Salakhutdinov 2016, Importance weighted autoencoders. Pyro takes the gradient for
    guides that are reparameterised, and gives others none, without a word.
    """

    def __init__(self, num_particles: int):
        super().__init__(num_particles=num_particles, max_plate_nesting=1, vectorize_particles=True)

    def _get_trace(
        self, model: Program, guide: Program, args: tuple, kwargs: dict
    ) -> tuple[Trace, Trace]:
        """Return the traces of model and guide, of K particles."""
        with _particles_at_once(self.num_particles):
            model_trace, guide_trace = super()._get_trace(model, guide, args, kwargs)
        for site in _sample_sites(guide_trace):
            if not site["is_observed"]:
                _check_reparameterised(site)
        for site in (*_sample_sites(model_trace), *_sample_sites(guide_trace)):
            if site["log_prob"].requires_grad:  # its gradient is the share r_k
                site["log_prob"].register_hook(_without_traces)
        return model_trace, guide_trace


class PathELBO(ELBO):
    """The ELBO or the IWAE bound of K particles in one pass, climbed along the guide's path alone.

    Each latent is cut off from its draw z(phi) as the guide draws it: z' has z's value, and the
    rest of guide and model sees z' only. So the gradient of log w by z' has none of phi, and goes
    on to phi through z, times 1/K or r_k^2. Deterministic sites (`Delta`) are not cut off: what
    they add to log w depends on phi in ways whose average is not zero.

    Args:
        importance_weighted: the IWAE bound (`dreg`), and not the ELBO (`stl`).
    """

    def __init__(self, num_particles: int, importance_weighted: bool):
        super().__init__(num_particles, max_plate_nesting=1, vectorize_particles=True)
        self.importance_weighted = importance_weighted

    def loss(self, model: Program, guide: Program, *args: object, **kwargs: object) -> float:
        """Return minus the bound of the batch, nats."""
        with torch.no_grad():
            rest, log_q, _ = self._log_densities(model, guide, args, kwargs)
        return -self._bound(rest - log_q)

    def loss_and_grads(
        self, model: Program, guide: Program, *args: object, **kwargs: object
    ) -> float:
        """Return minus the bound of the batch, nats, and add its gradient to the weights' own."""
        rest, log_q, drawn = self._log_densities(model, guide, args, kwargs)
        log_w = (rest - log_q).detach()
        if self.importance_weighted:
            share = _without_traces(log_w.softmax(0))
        else:
            share = torch.full_like(log_w, 1 / len(log_w))
        # one pass through the model, for its weights and for what each latent does to all but log q
        torch_backward(-(share * rest).sum(), retain_graph=True)
        total = (share * log_q).sum()
        for site in drawn:
            total = total + (site["value"].grad * site["value"]).sum()
        surrogate = 0.0
        for site in reversed(drawn):  # the last first: it may depend on those before
            (slope,) = torch.autograd.grad(total, site["value"], retain_graph=True)
            path = slope * site["path"]
            total = total + path.sum()
            surrogate = surrogate + (self._path_factor(share, site) * path).sum()
        torch_backward(surrogate)
        return -self._bound(log_w)

    def _log_densities(
        self, model: Program, guide: Program, args: tuple, kwargs: dict
    ) -> tuple[Tensor, Tensor, list[dict]]:
        """Return all of log w but log q of what the guide drew, that, and the sites it drew.

        Each is `(K, B)`, or `(K, 1)` for the whole batch if a latent belongs to all its images.
        """
        model_trace, guide_trace = self._get_vectorized_trace(model, guide, args, kwargs)
        ours, guides = _sample_sites(model_trace), _sample_sites(guide_trace)
        drawn = [site for site in guides if "path" in site]
        other = [site for site in guides if "path" not in site]
        shared = get_dependent_plate_dims([*ours, *guides])
        rest = _log_density(ours, shared) - _log_density(other, shared)
        log_q = _log_density(drawn, shared)
        rest, log_q = torch.broadcast_tensors(*torch.atleast_2d(rest, log_q))
        return rest, log_q, drawn

    def _get_trace(
        self, model: Program, guide: Program, args: tuple, kwargs: dict
    ) -> tuple[Trace, Trace]:
        """Return the traces of model and guide, at latents that are cut off from their draws."""
        nesting = self.max_plate_nesting
        with _particles_at_once(self.num_particles):
            return get_importance_trace("flat", nesting, model, _CutOff()(guide), args, kwargs)

    def _bound(self, log_w: Tensor) -> float:
        """Return the bound of the batch from its log weights, nats."""
        if self.importance_weighted:
            return float((log_w.logsumexp(0) - math.log(len(log_w))).sum())
        return float(log_w.mean(0).sum())

    def _path_factor(self, share: Tensor, site: dict) -> Tensor:
        """Return what the path's gradient is multiplied by, beside the particle's share of it.

        It is r_k for `dreg`. Where log q counts b times in log w, by poutine.scale or a mask, so
        does what the second reparameterisation puts along the path: r_k - b (r_k - r_k^2).
        """
        if not self.importance_weighted:
            return torch.ones_like(share[:1, :1])
        times = scale_and_mask(share.new_ones(()), site["scale"], site["mask"])
        return (1 - times * (1 - share))[(..., *[None] * site["fn"].event_dim)]


class _CutOff(Messenger):
    """Detach each latent that the guide draws; the "path" of its site is the draw itself."""

    def _pyro_sample(self, msg: dict) -> None:
        given = msg["is_observed"] or msg["value"] is not None
        if given or site_is_subsample(msg) or is_point(msg["fn"]):
            return
        _check_reparameterised(msg)
        msg["path"] = msg["fn"](*msg["args"], **msg["kwargs"])
        msg["value"] = msg["path"].detach().requires_grad_()
        msg["value"].grad = torch.zeros_like(msg["value"])


@contextmanager
def _particles_at_once(num_particles: int) -> Iterator[None]:
    """Report in one line that a program takes no further plate of particles."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        own = isinstance(error, InputError) or refused_by_distribution(error)
        if num_particles == 1 or own or "memory" in str(error):
            raise
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"model or guide does not take {num_particles} particles at once ({reason}): let its "
            "networks take further leading dimensions, in one plate over the images, or train with "
            "one particle"
        ) from error


def _without_traces(share: Tensor) -> Tensor:
    """Set to zero the shares r_k that are too small to change any digit of a sum over particles.

    What the backward pass makes of them is subnormal, and processors multiply such numbers many
    times slower: IWAE-50 trained at a third of its speed.
    """
    return share.where(share.abs() > torch.finfo(share.dtype).eps ** 2, 0)


def _check_reparameterised(site: dict) -> None:
    """Raise InputError unless gradients pass through what the site draws."""
    if not site["fn"].has_rsample:
        raise InputError(
            f"the guide's site {site['name']!r} draws from a {type(site['fn']).__name__}, which no "
            "gradient passes through: train by Trace_ELBO (objective 'elbo'), or draw it otherwise"
        )


def _sample_sites(trace: Trace) -> list[dict]:
    return [site for site in trace.nodes.values() if site["type"] == "sample"]


def _log_density(sites: Iterable[dict], shared: list[int]) -> Tensor:
    """Add up the sites' log densities, summed over the plates `shared` that not all sites have."""
    total = torch.zeros((), device="cpu")
    for site in sites:
        log_prob = site["log_prob"]
        for dim in shared:
            if log_prob.dim() >= -dim:
                log_prob = log_prob.sum(dim, keepdim=True)
        total = total.to(log_prob) + log_prob
    return total


# Each objective as a function of K.
OBJECTIVES: dict[str, Callable[[int], ELBO]] = {
    "elbo": lambda num_particles: Trace_ELBO(num_particles=num_particles),
    "iwae": IWAE,
    "stl": lambda num_particles: PathELBO(num_particles, importance_weighted=False),
    "dreg": lambda num_particles: PathELBO(num_particles, importance_weighted=True),
}

# K where none is asked for: one sample is enough for the ELBO, and no IWAE bound.
PARTICLES = {"elbo": 1, "iwae": 8, "stl": 1, "dreg": 8}


@checked
def objective(name: str, num_particles: int | None = None) -> ELBO:
    """Return the bound `name` of OBJECTIVES for `fit(elbo=...)`, estimated by `num_particles`.

    >>> from pyro_vae import objective
    >>> type(objective("dreg", num_particles=5)).__name__
    'PathELBO'

    Args:
        num_particles: K, by default PARTICLES[name].
    """
    check_choice(OBJECTIVES, name=name)
    particles = PARTICLES[name] if num_particles is None else num_particles
    check_counts(num_particles=particles)
    return OBJECTIVES[name](particles)
