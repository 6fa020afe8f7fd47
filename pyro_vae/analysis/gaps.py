"""The best member of a guide's family for each image, and so where its gap comes from."""

import math

import torch
from torch import Tensor
from tqdm import tqdm

from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.semi_amortised import _adam, ascend
from pyro_vae.likelihood.importance import log_joint
from pyro_vae.likelihood.traces import Program, draw_z
from pyro_vae.seeds import differentiable, seeded


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
            own = differentiable(part)
            z, _ = draw_z(posterior, own, 100)
            numbers = optimal(model, guide, own, z)
            found.append(elbo_samples(model, guide, numbers, own, num_samples))
    return torch.cat(found, 1)


def imitate(guide: Amortised, numbers: Tensor, z: Tensor, steps: int = 200) -> Tensor:
    """The numbers, shape `(B, outputs)`, that make the draws `z`, `(N, B, d)`, most likely.

    Found by Adam from `numbers`, image by image.
    """
    return _adam(lambda n: guide.distribution(n).log_prob(z).mean(0), numbers, steps, 0.1)


@torch.no_grad()
def optimal(
    model: Program,
    guide: Amortised,
    rows: list[Tensor],
    z: Tensor,
    steps: int = 300,
    draws: int = 8,
) -> Tensor:
    """The numbers `(B, outputs)` of q*, the member of the family with each image's highest ELBO.

    Found by `ascend` from the encoder's numbers, and from those that imitate the draws `z`,
    `(N, B, d)`, of a guide close to p(z | x), since the encoder may have put an image at a lesser
    mode; the better of both ends is taken. What the family shares among images, such as a flow's
    networks, stays as it is.
    """
    own = guide.encoder(*rows)
    starts = [own, imitate(guide, own, z)]
    ends = torch.stack([ascend(model, guide, start, rows, steps, draws) for start in starts])
    elbos = torch.stack(
        [elbo_samples(model, guide, numbers, rows, 200).mean(0) for numbers in ends]
    )
    return ends[elbos.nan_to_num(-math.inf).argmax(0), torch.arange(len(own))]


@torch.no_grad()
def elbo_samples(
    model: Program, guide: Amortised, numbers: Tensor, rows: list[Tensor], num_samples: int
) -> Tensor:
    """log p(x, z_k) - log q(z_k), `(K, B)`, z_k from the members of the family at `numbers`.

    float64, on the CPU.
    """
    q = guide.distribution(numbers)
    z = q.expand((num_samples, len(numbers))).sample()
    return log_joint(model, rows, {"z": z}) - q.log_prob(z).double().cpu()
