"""Drawing from a trained autoencoder: latents from guide and posterior, images from both."""

import torch
from torch import Tensor

from pyro_vae.errors import (
    InputError,
    check_counts,
    check_rows,
    check_seed,
    checked,
    one_line_refusals,
)
from pyro_vae.guides.amortised import Amortised
from pyro_vae.likelihood.importance import log_joint_in_chunks
from pyro_vae.likelihood.traces import Program, draw_z
from pyro_vae.models import Model
from pyro_vae.seeds import derive_seed, seeded


@checked
@one_line_refusals
@torch.no_grad()
def guide_samples(
    guide: Program, x: Tensor, *labels: Tensor, num_samples: int, seed: int = 0
) -> Tensor:
    """z_k ~ q(z | x), shape `(K, B, d)`, of each of the B images of `x`."""
    check_rows(x, *labels)
    check_counts(num_samples=num_samples)
    with seeded(seed, x):
        return draw_z(guide, [x, *labels], num_samples)[0]


@checked
@one_line_refusals
@torch.no_grad()
def decode(model: Model, z: Tensor, *labels: Tensor) -> Tensor:
    """The mean image of p(x | z), shape `(*, 1, 28, 28)`, of latents `(*, d)`."""
    if not z.isfinite().all():
        raise InputError("z must hold finite numbers")
    return model.pixel_distribution(logits=model.decoder(z, *labels)).mean


@checked
def mean_images(model: Model, z: Tensor, *labels: Tensor) -> Tensor:
    """As `decode`, in blocks on the model's device: `(B, 1, 28, 28)`, on the CPU, for any B."""
    check_rows(z, *labels, first="z")
    device = next(model.parameters()).device
    blocks = zip(*(rows.split(500) for rows in (z, *labels)), strict=True)
    return torch.cat([decode(model, *(row.to(device) for row in rows)).cpu() for rows in blocks])


@checked
@one_line_refusals
@torch.no_grad()
def decode_style(model: Model, style: Tensor, *labels: Tensor) -> Tensor:
    """The mean images f(e, y) = decoder(T_y(e), y) of styles e, `(B, d)`; see `pyro_vae.priors`."""
    check_rows(style, *labels, first="style")
    rows = [row.to(next(model.parameters()).device) for row in (style, *labels)]
    return mean_images(model, model.prior.latent(*rows), *rows[1:])


@checked
@one_line_refusals
@torch.no_grad()
def encode_style(
    model: Model, guide: Program, x: Tensor, *labels: Tensor, num_samples: int, seed: int = 0
) -> Tensor:
    """Styles e = T_y^-1(z), z ~ q(z | x, y), shape `(K, B, d)`, on the CPU, for any B."""
    check_rows(x, *labels)
    check_seed(seed)
    device, styles = next(model.parameters()).device, []
    for block, rows in enumerate(zip(*(row.split(500) for row in (x, *labels)), strict=True)):
        rows = [row.to(device) for row in rows]
        z = guide_samples(guide, *rows, num_samples=num_samples, seed=derive_seed(seed, block))
        styles.append(model.prior.style(z, *rows[1:]).cpu())
    return torch.cat(styles, 1)


@checked
@one_line_refusals
@torch.no_grad()
def posterior_moments(guide: Amortised, x: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of q(z | x) in each coordinate, `(B, d)` each, on the CPU."""
    check_rows(x, *labels)
    device = next(guide.parameters()).device
    means, deviations = [], []
    for rows in zip(*(row.split(500) for row in (x, *labels)), strict=True):
        q = guide.q(*(row.to(device) for row in rows))
        means.append(q.mean.cpu())
        deviations.append(q.variance.sqrt().cpu())
    return torch.cat(means), torch.cat(deviations)


@checked
def pixel_samples(means: Tensor, seed: int = 0) -> Tensor:
    """x ~ p(x | z): each pixel drawn black or white with its mean as the probability of white."""
    if not (means.numel() and means.is_floating_point() and 0 <= means.min() <= means.max() <= 1):
        raise InputError("means must be floats, at least one, in [0, 1] without NaN")
    check_seed(seed)
    return torch.bernoulli(means, generator=torch.Generator(means.device).manual_seed(seed))


@checked
@one_line_refusals
@torch.no_grad()
def posterior_samples(
    model: Program,
    guide: Program,
    x: Tensor,
    *labels: Tensor,
    num_draws: int,
    num_samples: int = 1000,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Draws of p(z | x), `(num_draws, B, d)`, and their effective sample sizes, `(B,)`.

    Sampling-importance-resampling: K samples of the guide are drawn again in proportion to their
    weights p(x, z) / q(z | x). Exact as K grows; the effective sample size says how near that is.
    """
    check_counts(num_draws=num_draws, num_samples=num_samples)
    check_rows(x, *labels)
    rows = [x, *labels]
    with seeded(seed, x):
        z, w = _weighted(model, guide, rows, num_samples)
        chosen = torch.multinomial(w.T, num_draws, replacement=True).T.to(x.device)
    return z.gather(0, chosen[..., None].expand(-1, -1, z.shape[-1])), 1 / w.square().sum(0)


@checked
@one_line_refusals
@torch.no_grad()
def posterior_mean(
    model: Program,
    guide: Program,
    x: Tensor,
    *labels: Tensor,
    num_samples: int = 100,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """The mean of p(z | x), `(B, d)`, and the effective sample sizes behind it, `(B,)`.

    K samples of the guide are averaged by their weights (self-normalised importance sampling).
    """
    check_counts(num_samples=num_samples)
    check_rows(x, *labels)
    means, sizes = [], []
    with seeded(seed, x):
        for rows in zip(*(row.split(100) for row in (x, *labels)), strict=True):
            z, w = _weighted(model, guide, list(rows), num_samples)
            means.append(torch.einsum("kb,kbi->bi", w.to(z), z))
            sizes.append(1 / w.square().sum(0))
    return torch.cat(means), torch.cat(sizes)


def _weighted(
    model: Program, guide: Program, rows: list[Tensor], num_samples: int
) -> tuple[Tensor, Tensor]:
    """K samples of the guide, `(K, B, d)`, and their weights for p(z | x), `(K, B)`, of sum one."""
    z, log_q = draw_z(guide, rows, num_samples)
    return z, torch.softmax(log_joint_in_chunks(model, rows, {"z": z}) - log_q.cpu(), 0)
