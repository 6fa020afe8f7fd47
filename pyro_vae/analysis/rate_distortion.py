"""Rate and distortion: information in the latent, and what the image loses. Nats per image.

    rate        R(q) = KL(q(z | x) || p(z))            distortion  D(q) = -E_q log p(x | z)

so that the ELBO is -(R + D). For any q and any b > 0

    R(q) + b D(q) = KL(q || q_b) - log Z_b,    q_b(z) = p(z) p(x | z)^b / Z_b,

so q_b has the lowest distortion at its rate. Over all b these points make the rate-distortion curve
of the generator, which involves no encoder; its slope dR / dD is -b. A guide lies above the curve.
At b = 1 q_b is the posterior, R + D is -log p(x), and KL is the guide's whole gap.

References:
    Alemi et al. (2018), Fixing a broken ELBO, sect. 2.
    Huang, Makhzani, Cao, Grosse (2020), Evaluating lossy compression rates of deep generative
    models, sect. 3.
"""

from typing import NamedTuple

import numpy as np
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_vae.complaints import one_line_refusals
from pyro_vae.errors import check_counts, check_number, check_rows, checked
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import estimate
from pyro_vae.likelihood.importance import log_joint_in_chunks
from pyro_vae.likelihood.traces import batches, draw, only
from pyro_vae.models import Model
from pyro_vae.programs import Program, in_evaluation_mode
from pyro_vae.seeds import seeded, without_inference_mode


class RateDistortion(NamedTuple):
    """Rate and distortion of B images. Arrays `(B,)`, nats per image."""

    rate: np.ndarray
    distortion: np.ndarray
    khat: np.ndarray  # Pareto k-hat of the weights behind them


@checked
@one_line_refusals
@in_evaluation_mode
@torch.no_grad()
def guide_rate_distortion(
    model: Program,
    guide: Program,
    x: Tensor,
    *labels: Tensor,
    num_samples: int = 100,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return R(q) and D(q) of a guide, `(B,)` each, from `num_samples` samples of it.

    Model and guide may be any Pyro programs: p(z) is of their latent sites, all together, and
    p(x | z) of the observed ones.
    """
    check_counts(num_samples=num_samples)
    check_rows(x, *labels)
    rates, distortions = [], []
    with seeded(seed, x):
        for batch in batches([x, *labels], 100):
            latents, log_q = draw(guide, batch, num_samples)
            log_p = log_joint_in_chunks(model, batch, latents)
            log_prior = _log_prior(model, batch, latents)
            rates.append((log_q.cpu().double() - log_prior).mean(0))
            distortions.append((log_prior - log_p).mean(0))
    return torch.cat(rates).numpy(), torch.cat(distortions).numpy()


@checked
@one_line_refusals
@in_evaluation_mode
@torch.no_grad()
def model_rate_distortion(
    model: Program,
    guide: Program,
    x: Tensor,
    *labels: Tensor,
    beta: float,
    num_samples: int = 500,
    seed: int = 0,
) -> RateDistortion:
    """Return R(q_b) and D(q_b) of the generator at b = `beta`.

    A refined guide is fitted to q_b, starting from `guide`. D is its self-normalised weighted mean,
    log Z_b the log of the weights' mean, and R = -b D - log Z_b.
    """
    check_number("beta", beta, 1e-9, 1e9)
    check_counts(num_samples=num_samples)
    check_rows(x, *labels)
    tempered = Tempering(beta)(model)
    refined = Refined(tempered, guide)
    parts = []
    with seeded(seed, x):
        for batch in batches([x, *labels], 100):
            batch = without_inference_mode(batch)
            latents, log_q = draw(refined, batch, num_samples)
            log_p = log_joint_in_chunks(tempered, batch, latents)  # log p(z) + b log p(x | z)
            log_w = log_p - log_q.cpu().double()
            w = torch.softmax(log_w, 0)
            scaled = (w * (log_p - _log_prior(model, batch, latents))).sum(0).numpy()  # -b D
            log_z = estimate(log_w)
            parts.append(RateDistortion(scaled - log_z.value, -scaled / beta, log_z.khat))
    return RateDistortion(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _log_prior(model: Program, batch: list[Tensor], latents: dict[str, Tensor]) -> Tensor:
    """Return log p(z), or log p(z | y), of latents `(K, B, d)`: `(K, B)`, float64, on the CPU."""
    if isinstance(model, Model):  # its prior is at hand
        return model.prior(*batch).log_prob(only(latents)).cpu().double()
    return log_joint_in_chunks(Tempering(0.0)(model), batch, latents)


class Tempering(Messenger):
    """Take what a program observes to the power `beta`: log p(z) + b log p(x | z).

    As in `Tempering(beta)(model)`, which is again a program.
    """

    def __init__(self, beta: float):
        super().__init__()
        self.beta = beta

    def _pyro_sample(self, msg: dict) -> None:
        if msg["is_observed"] and not site_is_subsample(msg):
            fn = msg["fn"]
            # below the event dimensions: the same sum over pixels as the model's own
            events = fn.reinterpreted_batch_ndims if isinstance(fn, dist.Independent) else 0
            msg["fn"] = Tempered(fn.base_dist if events else fn, self.beta).to_event(events)


class Tempered(dist.TorchDistribution):
    """A distribution to the power `beta`: its log density times `beta`.

    It is not normalised and cannot be sampled.
    """

    arg_constraints: dict = {}  # noqa: RUF012  (the name and type that torch asks for)

    def __init__(self, base: dist.TorchDistribution, beta: float):
        self.base, self.beta = base, beta
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> "Tempered":
        """Return it with another batch shape, as a plate asks."""
        return Tempered(self.base.expand(batch_shape), self.beta)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return `beta` times the log density, nats; 0 for `beta` 0, at impossible values too."""
        log_p = self.base.log_prob(value)
        return self.beta * log_p if self.beta else torch.zeros_like(log_p)
