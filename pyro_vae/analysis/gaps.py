"""The best member q* of a guide's family for each image: it splits the guide's gap into two parts.

q* has the highest ELBO(q) = E_q[log p(x, z) - log q(z)] of the family for that one image. What the
family shares among images, such as a flow's networks, stays as trained.
"""

import math

import torch
from torch import Tensor

from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.semi_amortised import adam_ascent, maximise_elbo
from pyro_vae.likelihood.importance import log_joint_in_chunks
from pyro_vae.likelihood.traces import batches, draw, only
from pyro_vae.programs import Program, in_evaluation_mode
from pyro_vae.progress import Progress, part, progress_bar
from pyro_vae.seeds import seeded, without_inference_mode


@in_evaluation_mode
def best_log_weights(
    model: Program,
    guide: Amortised,
    posterior: Program,
    batch: list[Tensor],
    num_samples: int,
    seed: int,
    progress: Progress,
) -> Tensor:
    """Return log weights `(K, G)` of K samples of q* for each of the G images of `batch`.

    `posterior` is a guide close to p(z | x); its draws start the search for q*.
    """
    parts = batches(batch, 25)
    name = f"gaps, {len(parts[0][0])} images at a time"
    log_w = []
    with seeded(seed, batch[0]), progress_bar(part(progress, name), len(parts), "it", name) as bar:
        for rows in parts:
            rows = without_inference_mode(rows)
            latents, _ = draw(posterior, rows, 100)
            params = best_in_family(model, guide, rows, only(latents))
            log_w.append(log_weights_at(model, guide, params, rows, num_samples))
            bar.update()
    return torch.cat(log_w, 1)


def fit_to_samples(guide: Amortised, params: Tensor, z: Tensor, steps: int = 200) -> Tensor:
    """Fit the family to draws `z`, `(N, B, d)`, by maximum likelihood, image by image.

    Adam starts at `params`, `(B, num_params)`; the parameters it ends at are returned.
    """
    return adam_ascent(lambda n: guide.distribution(n).log_prob(z).mean(0), params, steps, 0.1)


@torch.no_grad()
def best_in_family(
    model: Program,
    guide: Amortised,
    batch: list[Tensor],
    z: Tensor,
    steps: int = 300,
    draws: int = 8,
) -> Tensor:
    """Return the parameters `(B, num_params)` of q* for each image.

    `maximise_elbo` has two starts: the encoder's output, and a fit to posterior draws `z`,
    `(N, B, d)`, in case the encoder chose the wrong mode. The better end is kept.
    """
    encoded = guide.encoder(*batch)
    starts = [encoded, fit_to_samples(guide, encoded, z)]
    ends = torch.stack(
        [maximise_elbo(model, guide, start, batch, steps, draws) for start in starts]
    )
    elbos = torch.stack([log_weights_at(model, guide, end, batch, 200).mean(0) for end in ends])
    return ends[
        elbos.nan_to_num(-math.inf).argmax(0), torch.arange(len(encoded), device=elbos.device)
    ]


@torch.no_grad()
def log_weights_at(
    model: Program, guide: Amortised, params: Tensor, batch: list[Tensor], num_samples: int
) -> Tensor:
    """Return log p(x, z_k) - log q(z_k), z_k ~ q, `(K, B)`, float64, on the CPU.

    q is the family's member at `params`, `(B, num_params)`.
    """
    q = guide.distribution(params)
    z = q.expand((num_samples, len(params))).sample()
    return log_joint_in_chunks(model, batch, {"z": z}) - q.log_prob(z).cpu().double()
