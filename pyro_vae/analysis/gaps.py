"""The best member of a guide's family for each image, and so where its gap comes from."""

import math

import torch
from torch import Tensor
from tqdm import tqdm

from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.semi_amortised import _adam, maximise_elbo
from pyro_vae.likelihood.importance import log_joint_in_chunks
from pyro_vae.likelihood.traces import Program, draw_z
from pyro_vae.seeds import seeded, without_inference_mode


def best_log_weights(
    model: Program,
    guide: Amortised,
    posterior: Program,
    rows: list[Tensor],
    num_samples: int,
    seed: int,
    progress: str | None,
) -> Tensor:
    """Log weights, `(K, G)`, of samples of q* for each of G images."""
    parts = list(zip(*(row.split(25) for row in rows), strict=True))
    name = progress and f"{progress}: gaps, {len(parts[0][0])} images at a time"
    found = []
    with seeded(seed, rows[0]):
        for part in tqdm(parts, desc=name, disable=progress is None):
            own = without_inference_mode(part)
            z, _ = draw_z(posterior, own, 100)
            params = best_in_family(model, guide, own, z)
            found.append(log_weights_at(model, guide, params, own, num_samples))
    return torch.cat(found, 1)


def fit_to_samples(guide: Amortised, params: Tensor, z: Tensor, steps: int = 200) -> Tensor:
    """The numbers, shape `(B, num_params)`, that make the draws `z`, `(N, B, d)`, most likely.

    Found by Adam from `params`, image by image.
    """
    return _adam(lambda n: guide.distribution(n).log_prob(z).mean(0), params, steps, 0.1)


@torch.no_grad()
def best_in_family(
    model: Program,
    guide: Amortised,
    rows: list[Tensor],
    z: Tensor,
    steps: int = 300,
    draws: int = 8,
) -> Tensor:
    """The numbers `(B, num_params)` of q*, the member of the family with each image's highest ELBO.

    Found by `maximise_elbo` from the encoder's numbers, and from those that imitate the draws `z`,
    `(N, B, d)`, of a guide close to p(z | x), since the encoder may have put an image at a lesser
    mode; the better of both ends is taken. What the family shares among images, such as a flow's
    networks, stays as it is.
    """
    own = guide.encoder(*rows)
    starts = [own, fit_to_samples(guide, own, z)]
    ends = torch.stack([maximise_elbo(model, guide, start, rows, steps, draws) for start in starts])
    elbos = torch.stack(
        [log_weights_at(model, guide, params, rows, 200).mean(0) for params in ends]
    )
    return ends[elbos.nan_to_num(-math.inf).argmax(0), torch.arange(len(own))]


@torch.no_grad()
def log_weights_at(
    model: Program, guide: Amortised, params: Tensor, rows: list[Tensor], num_samples: int
) -> Tensor:
    """log p(x, z_k) - log q(z_k), `(K, B)`, z_k from the members of the family at `params`.

    float64, on the CPU.
    """
    q = guide.distribution(params)
    z = q.expand((num_samples, len(params))).sample()
    return log_joint_in_chunks(model, rows, {"z": z}) - q.log_prob(z).double().cpu()
