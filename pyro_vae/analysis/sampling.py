"""Draw from a trained autoencoder: latents from guide and posterior, and images from latents."""

import torch
from torch import Tensor

from pyro_vae.errors import (
    InputError,
    check_counts,
    check_rows,
    check_seed,
    checked,
    describe,
    one_line_refusals,
)
from pyro_vae.guides.amortised import Amortised
from pyro_vae.likelihood.importance import log_joint_in_chunks
from pyro_vae.likelihood.traces import Program, batches, draw_z
from pyro_vae.models import Model
from pyro_vae.seeds import derive_seed, seeded


@checked
@one_line_refusals
@torch.no_grad()
def guide_samples(
    guide: Program, x: Tensor, *labels: Tensor, num_samples: int, seed: int = 0
) -> Tensor:
    """Draw z_k ~ q(z | x) for each of the B images of `x`: `(K, B, d)`."""
    check_rows(x, *labels)
    check_counts(num_samples=num_samples)
    with seeded(seed, x):
        return draw_z(guide, [x, *labels], num_samples)[0]


@checked
@one_line_refusals
@torch.no_grad()
def decode(model: Model, z: Tensor, *labels: Tensor) -> Tensor:
    """Return the mean images of p(x | z), `(*, 1, 28, 28)`, of latents `(*, d)`, however many.

    Labels are `(B,)` for latents `(*, B, d)`. The latents are decoded 500 at a time on the model's
    device; the images are on the device of z.
    """
    if z.dim() == 0 or z.numel() == 0 or not z.isfinite().all():
        raise InputError(f"z must hold finite numbers (*, d), at least one, not {describe(z)}")
    for y in labels:
        if y.shape != z.shape[-2:-1]:
            raise InputError(f"y must be one label for each latent, not {describe(y)}")
    device = next(model.parameters(), z).device
    flat = [z.reshape(-1, z.shape[-1]), *(y.expand(z.shape[:-1]).flatten() for y in labels)]
    logits = (model.decoder(*(t.to(device) for t in batch)) for batch in batches(flat, 500))
    images = torch.cat([model.pixel_distribution(logits=part).mean.to(z.device) for part in logits])
    return images.reshape(*z.shape[:-1], *images.shape[1:])


@checked
@one_line_refusals
@torch.no_grad()
def decode_style(model: Model, style: Tensor, *labels: Tensor) -> Tensor:
    """Return the mean images f(e, y) = decoder(T_y(e), y) of styles e, `(B, d)`, labels y, `(B,)`.

    T_y is the prior's map; see `pyro_vae.priors`.
    """
    check_rows(style, *labels, first="style")
    device = next(model.parameters()).device
    z = model.prior.latent(*(t.to(device) for t in (style, *labels)))
    return decode(model, z.to(style.device), *labels)


@checked
@one_line_refusals
@torch.no_grad()
def encode_style(
    model: Model, guide: Program, x: Tensor, *labels: Tensor, num_samples: int, seed: int = 0
) -> Tensor:
    """Draw styles e = T_y^-1(z), z ~ q(z | x, y): `(K, B, d)`, on the CPU, for any B."""
    check_rows(x, *labels)
    check_seed(seed)
    device, styles = next(model.parameters()).device, []
    for block, batch in enumerate(batches([x, *labels], 500)):
        batch = [t.to(device) for t in batch]
        z = guide_samples(guide, *batch, num_samples=num_samples, seed=derive_seed(seed, block))
        styles.append(model.prior.style(z, *batch[1:]).cpu())
    return torch.cat(styles, 1)


@checked
@one_line_refusals
@torch.no_grad()
def posterior_moments(guide: Amortised, x: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of q(z | x), `(B, d)` each, on the CPU, for any B."""
    check_rows(x, *labels)
    device = next(guide.parameters()).device
    means, deviations = [], []
    for batch in batches([x, *labels], 500):
        q = guide.q(*(t.to(device) for t in batch))
        means.append(q.mean.cpu())
        deviations.append(q.variance.sqrt().cpu())
    return torch.cat(means), torch.cat(deviations)


@checked
def pixel_samples(means: Tensor, seed: int = 0) -> Tensor:
    """Draw x ~ p(x | z), black or white: each mean is the probability that its pixel is white."""
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
    """Draw from p(z | x): `(num_draws, B, d)`, with the effective sample sizes, `(B,)`.

    Sampling-importance-resampling: K = `num_samples` samples of the guide are resampled in
    proportion to their weights p(x, z) / q(z | x). This is exact as K grows; the larger the
    effective sample size, the nearer.
    """
    check_counts(num_draws=num_draws, num_samples=num_samples)
    check_rows(x, *labels)
    with seeded(seed, x):
        z, w = _weighted(model, guide, [x, *labels], num_samples)
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
    """Estimate the mean of p(z | x), `(B, d)`; return it and the effective sample sizes, `(B,)`.

    Self-normalised importance sampling: the weighted mean of K = `num_samples` samples of the
    guide.
    """
    check_counts(num_samples=num_samples)
    check_rows(x, *labels)
    means, sizes = [], []
    with seeded(seed, x):
        for batch in batches([x, *labels], 100):
            z, w = _weighted(model, guide, batch, num_samples)
            means.append(torch.einsum("kb,kbi->bi", w.to(z), z))
            sizes.append(1 / w.square().sum(0))
    return torch.cat(means), torch.cat(sizes)


def _weighted(
    model: Program, guide: Program, batch: list[Tensor], num_samples: int
) -> tuple[Tensor, Tensor]:
    """Draw K samples of the guide, `(K, B, d)`, with normalised weights p(z | x) / q, `(K, B)`."""
    z, log_q = draw_z(guide, batch, num_samples)
    return z, torch.softmax(log_joint_in_chunks(model, batch, {"z": z}) - log_q.cpu(), 0)
