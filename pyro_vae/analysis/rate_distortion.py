"""Rate and distortion: what is spent on the latent, and what is lost of the image. Nats per image.

    rate        R(q) = KL(q(z | x) || p(z))            distortion  D(q) = -E_q log p(x | z)

so that the ELBO is -(R + D). For any q and any b > 0

    R(q) + b D(q) = KL(q || q_b) - log Z_b,    q_b(z) = p(z) p(x | z)^b / Z_b,

so that q_b has the lowest distortion at its rate. Over all b these make the rate-distortion curve
of the generator, in which no encoder has any part: -b is its slope dR / dD. A guide lies above it.
At b = 1 q_b is the posterior, R + D is -log p(x), and KL is the guide's whole gap.

References:
    Alemi et al. (2018), Fixing a broken ELBO, sect. 2.
    Huang, Makhzani, Cao, Grosse (2020), Evaluating lossy compression rates of deep generative
    models, sect. 3.
"""

from collections.abc import Callable, Sequence
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
from pyro_vae.likelihood.traces import Program, draw_z
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
    """R(q) and D(q) of a guide, `(B,)` each, by `num_samples` samples of it."""
    check_counts(num_samples=num_samples)
    check_rows(x, *labels)
    rates, distortions = [], []
    with seeded(seed, x):
        for rows in zip(*(row.split(100) for row in (x, *labels)), strict=True):
            z, log_q = draw_z(guide, list(rows), num_samples)
            log_p, log_prior = (
                log_joint_in_chunks(model, list(rows), {"z": z}),
                _log_prior(model, rows, z),
            )
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
    """R(q_b) and D(q_b) of the generator, b = `beta`, by the refined guide fitted to q_b.

    With its self-normalised weights D is a weighted mean; log Z_b is the log of the weights' mean,
    and R = -b D - log Z_b. `guide` is where the refined guide starts.
    """
    check_number("beta", beta, 1e-9, 1e9)
    check_counts(num_samples=num_samples)
    check_rows(x, *labels)
    tempered = Model(
        model.decoder, partial(TemperedPixels, model.pixel_distribution, beta), model.prior
    )
    refined = Refined(tempered, guide)
    found = []
    with seeded(seed, x):
        for part in zip(*(row.split(100) for row in (x, *labels)), strict=True):
            rows = without_inference_mode(part)
            z, log_q = draw_z(refined, rows, num_samples)
            log_p = log_joint_in_chunks(tempered, rows, {"z": z})  # log p(z) + b log p(x | z)
            log_w = log_p - log_q.double().cpu()
            w = torch.softmax(log_w, 0)
            scaled = (w * (log_p - _log_prior(model, rows, z))).sum(0).numpy()  # -b D
            weights = estimate(log_w)
            found.append(RateDistortion(scaled - weights.value, -scaled / beta, weights.khat))
    return RateDistortion(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _log_prior(model: Model, rows: Sequence[Tensor], z: Tensor) -> Tensor:
    """log p(z), or log p(z | y), `(K, B)`, float64, on the CPU, of latents `(K, B, d)`."""
    return model.prior(*rows).log_prob(z).double().cpu()


class TemperedPixels(dist.TorchDistribution):
    """Another distribution of the pixels to the power `beta`: log density times `beta`.

    It is not normalised and cannot be sampled; see `pyro_vae.rate_distortion`.
    """

    def __init__(
        self, pixels: Callable[..., dist.TorchDistribution], beta: float, *, logits: Tensor
    ):
        self.base, self.beta = pixels(logits=logits), beta
        super().__init__(self.base.batch_shape, self.base.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """`beta` times the other distribution's, nats per pixel."""
        return self.beta * self.base.log_prob(value)
