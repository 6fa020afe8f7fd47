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

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vae.errors import check_counts, check_number, check_rows, checked, one_line_refusals
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import estimate
from pyro_vae.likelihood.importance import log_joint_in_chunks
from pyro_vae.likelihood.traces import Program, batches, draw_z
from pyro_vae.models import Model
from pyro_vae.seeds import seeded, without_inference_mode


class RateDistortion(NamedTuple):
    """Rate and distortion of B images. Arrays `(B,)`, nats per image."""

    rate: np.ndarray
    distortion: np.ndarray
    khat: np.ndarray  # Pareto k-hat of the weights behind them


@checked
@one_line_refusals
@torch.no_grad()
def guide_rate_distortion(
    model: Model, guide: Program, x: Tensor, *labels: Tensor, num_samples: int = 100, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return R(q) and D(q) of a guide, `(B,)` each, from `num_samples` samples of it."""
    check_counts(num_samples=num_samples)
    check_rows(x, *labels)
    rates, distortions = [], []
    with seeded(seed, x):
        for batch in batches([x, *labels], 100):
            z, log_q = draw_z(guide, batch, num_samples)
            log_p = log_joint_in_chunks(model, batch, {"z": z})
            log_prior = _log_prior(model, batch, z)
            rates.append((log_q.double().cpu() - log_prior).mean(0))
            distortions.append((log_prior - log_p).mean(0))
    return torch.cat(rates).numpy(), torch.cat(distortions).numpy()


@checked
@one_line_refusals
@torch.no_grad()
def model_rate_distortion(
    model: Model,
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
    tempered = Model(
        model.decoder, partial(TemperedPixels, model.pixel_distribution, beta), model.prior
    )
    refined = Refined(tempered, guide)
    parts = []
    with seeded(seed, x):
        for batch in batches([x, *labels], 100):
            batch = without_inference_mode(batch)
            z, log_q = draw_z(refined, batch, num_samples)
            log_p = log_joint_in_chunks(tempered, batch, {"z": z})  # log p(z) + b log p(x | z)
            log_w = log_p - log_q.double().cpu()
            w = torch.softmax(log_w, 0)
            scaled = (w * (log_p - _log_prior(model, batch, z))).sum(0).numpy()  # -b D
            log_z = estimate(log_w)
            parts.append(RateDistortion(scaled - log_z.value, -scaled / beta, log_z.khat))
    return RateDistortion(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _log_prior(model: Model, batch: list[Tensor], z: Tensor) -> Tensor:
    """Return log p(z), or log p(z | y), of latents `(K, B, d)`: `(K, B)`, float64, on the CPU."""
    return model.prior(*batch).log_prob(z).double().cpu()


class TemperedPixels(dist.TorchDistribution):
    """A pixel distribution to the power `beta`: its log density times `beta`.

    It is not normalised and cannot be sampled.
    """

    def __init__(
        self, pixels: Callable[..., dist.TorchDistribution], beta: float, *, logits: Tensor
    ):
        self.base, self.beta = pixels(logits=logits), beta
        super().__init__(self.base.batch_shape, self.base.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return `beta` times the log density of the pixel distribution, nats per pixel."""
        return self.beta * self.base.log_prob(value)
