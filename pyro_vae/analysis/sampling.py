"""Draw from a trained autoencoder: latents from guide and posterior, and images from latents.

Model and guide may be any Pyro programs, with latent sites of any name and shape. Latents are a
tensor, `(*, d)`, where there is one latent site, and a dict {name: tensor} where there are several.
"""

from contextlib import suppress

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vae.analysis.rendering import device_of, latent_sites, mean_images, rows_like, shared_lead
from pyro_vae.complaints import one_line_refusals
from pyro_vae.errors import InputError, check_counts, check_rows, check_seed, checked, describe
from pyro_vae.likelihood.coordinates import is_discrete
from pyro_vae.likelihood.importance import log_joint_in_chunks, resampled
from pyro_vae.likelihood.sites import Site
from pyro_vae.likelihood.traces import batches, draw, guide_sites, only
from pyro_vae.models import Model
from pyro_vae.programs import Program, has_own_numbers, in_evaluation_mode
from pyro_vae.seeds import derive_seed, seeded

Latents = Tensor | dict[str, Tensor]


@checked
@one_line_refusals
@in_evaluation_mode
@torch.no_grad()
def guide_samples(
    guide: Program, x: Tensor, *labels: Tensor, num_samples: int, seed: int = 0
) -> Latents:
    """Draw z_k ~ q(z | x) for each of the B images of `x`: `(K, B, d)`."""
    check_rows(x, *labels)
    check_counts(num_samples=num_samples)
    with seeded(seed, x):
        return _bare(_values(guide_sites(guide, [x, *labels], num_samples)))


def _values(sites: list[Site]) -> dict[str, Tensor]:
    """Return the latents that a guide drew."""
    return {site.name: site.value for site in sites if not site.auxiliary}


def _bare(latents: dict[str, Tensor]) -> Latents:
    """Return the latent where there is one, else all by name."""
    return only(latents) if len(latents) == 1 else latents


@checked
@one_line_refusals
@in_evaluation_mode
@torch.no_grad()
def decode(model: Program, z: Latents, *labels: Tensor, like: Tensor | None = None) -> Tensor:
    """Return the mean images of p(x | z), `(*, 1, 28, 28)`, of latents `(*, d)`, however many.

    The latents should be likely under the model's prior, p(z) or p(z | y). Where the prior is
    learned, draws of N(0, I) are not, and give smudges: for new images use `sample`. Labels are
    `(B,)` for latents `(*, B, d)`. The latents are decoded 500 at a time on the model's device; the
    images are on the device of z.

    Args:
        like: images that the model takes, such as x[:1]. Only their shape, type and device count.
            `Model` does without; any other program needs it.

    >>> import torch
    >>> from pyro_vae import Decoder, Model, decode
    >>> decode(Model(Decoder(latent_dim=2)), torch.zeros(5, 2)).shape
    torch.Size([5, 1, 28, 28])
    """
    for name, value in (z if isinstance(z, dict) else {"z": z}).items():
        if value.dim() == 0 or value.numel() == 0 or not value.isfinite().all():
            raise InputError(
                f"{name} must hold finite numbers (*, d), at least one, not {describe(value)}"
            )
    if isinstance(model, Model):
        return _decoded_by_network(model, only(z) if isinstance(z, dict) else z, *labels)
    sites = latent_sites(model, rows_like(model, like, 1, *labels))
    if not isinstance(z, dict) and len(sites) > 1:
        raise InputError(f"z must be a dict of the model's latents {sorted(s.name for s in sites)}")
    latents = z if isinstance(z, dict) else {sites[0].name: z}
    lead = shared_lead(latents, sites)
    for y in labels:
        if y.shape[:1] != lead[-1:]:
            raise InputError(f"y must be one label for each latent, not {describe(y)}")
    flat = [value.reshape(-1, *value.shape[len(lead) :]) for value in latents.values()]
    flat += [y.expand(*lead, *y.shape[1:]).reshape(-1, *y.shape[1:]) for y in labels]
    images = []
    for rows in batches([t.to(device_of(model, like)) for t in flat], 500):
        held = dict(zip(latents, rows, strict=False))
        batch = [*rows_like(model, like, len(rows[0])), *rows[len(latents) :]]
        images.append(mean_images(model, batch, held))
    images = torch.cat(images).to(next(iter(latents.values())).device)
    return images.reshape(*lead, *images.shape[1:])


def _decoded_by_network(
    model: Model, z: Tensor, *labels: Tensor, seed: int | None = None
) -> Tensor:
    """Return the mean images by the decoder alone: without prior, and without images.

    With a `seed` return draws of p(x | z) instead.
    """
    for y in labels:
        if y.shape != z.shape[-2:-1]:
            raise InputError(f"y must be one label for each latent, not {describe(y)}")
    device = device_of(model, z)
    flat = [z.reshape(-1, z.shape[-1]), *(y.expand(z.shape[:-1]).flatten() for y in labels)]
    images = []
    for block, batch in enumerate(batches(flat, 500)):
        pixels = model.pixel_distribution(logits=model.decoder(*(t.to(device) for t in batch)))
        if seed is None or isinstance(pixels, dist.Bernoulli):
            part = pixels.mean
        else:
            with seeded(derive_seed(seed, block), pixels.mean):
                part = pixels.sample()
        images.append(part.to(z.device))
    images = torch.cat(images)
    if seed is not None and isinstance(pixels, dist.Bernoulli):
        images = pixel_samples(images, seed)
    return images.reshape(*z.shape[:-1], *images.shape[1:])


@checked
@one_line_refusals
@in_evaluation_mode
@torch.no_grad()
def sample(
    model: Program,
    n: int,
    *labels: Tensor,
    like: Tensor | None = None,
    seed: int = 0,
    pixels: bool = False,
) -> Tensor:
    """Draw `n` images from the model, with the labels y, `(n,)`, where it takes them.

    Latents are drawn from the model's own prior, p(z) or p(z | y), a learned one too. The images
    are the means of p(x | z), or with `pixels` draws of it: black or white under a Bernoulli.

    Args:
        like: as in `decode`: images that a program of your own takes.

    >>> import torch
    >>> from pyro_vae import Vae, sample
    >>> vae = Vae.build(latent_dim=2, num_classes=10, prior="learned")
    >>> sample(vae.model, 3, torch.tensor([4, 4, 7])).shape
    torch.Size([3, 1, 28, 28])
    """
    check_counts(n=n)
    check_seed(seed)
    if isinstance(model, Model):
        weight = next(model.parameters())
        shape, on_cpu = (n, model.prior.latent_dim), {"dtype": torch.float32, "device": "cpu"}
        style = torch.randn(shape, generator=_generator(seed), **on_cpu).to(weight)
        labels = [y.to(weight.device) for y in labels]
        if not pixels:
            return decode_style(model, style, *labels)
        check_rows(style, *labels, first="style")
        return _decoded_by_network(model, model.prior.latent(style, *labels), *labels, seed=seed)
    (rows,) = rows_like(model, like, n)
    batch = [rows, *(y.to(rows.device) for y in labels)]
    check_rows(*batch)
    images = []
    for block, part in enumerate(batches(batch, 500)):
        with seeded(derive_seed(seed, block), part[0]):
            images.append(mean_images(model, part, {}, pixels))
    return torch.cat(images)


def _generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


@checked
@one_line_refusals
@in_evaluation_mode
@torch.no_grad()
def decode_style(model: Model, style: Tensor, *labels: Tensor) -> Tensor:
    """Return the mean images f(e, y) = decoder(T_y(e), y) of styles e, `(B, d)`, labels y, `(B,)`.

    T_y is the prior's map; see `pyro_vae.priors`. Only `Model` has one.
    """
    check_rows(style, *labels, first="style")
    device = next(model.parameters()).device
    z = model.prior.latent(*(t.to(device) for t in (style, *labels)))
    return decode(model, z.to(style.device), *labels)


@checked
@one_line_refusals
@in_evaluation_mode
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
@in_evaluation_mode
@torch.no_grad()
def posterior_moments(
    guide: Program, x: Tensor, *labels: Tensor, num_samples: int = 1000, seed: int = 0
) -> tuple[Latents, Latents]:
    """Return mean and standard deviation of q(z | x), `(B, d)` each, on the CPU, for any B.

    They are those of the site's distribution where the guide draws one site, and its distribution
    has them. Otherwise they are those of `num_samples` draws: a flow, a hierarchy of latents, or a
    latent computed from auxiliary sites.
    """
    check_rows(x, *labels)
    check_counts(2, num_samples=num_samples)
    check_seed(seed)
    device = device_of(guide, x)
    # a guide with numbers of its own for each image takes all of them, in their order
    size = len(x) if has_own_numbers(guide) else 500
    parts = []
    for block, batch in enumerate(batches([x, *labels], size)):
        with seeded(derive_seed(seed, block), x):
            parts.append(_moments(guide, [t.to(device) for t in batch], num_samples))
    mean, deviation = (
        {name: torch.cat([part[name][i].cpu() for part in parts]) for name in parts[0]}
        for i in (0, 1)
    )
    return _bare(mean), _bare(deviation)


def _moments(
    guide: Program, batch: list[Tensor], num_samples: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and standard deviation of each latent of the b images of `batch`, `(b, ...)`."""
    sites = guide_sites(guide, batch, 1)
    if len(sites) == 1:
        (site,) = sites
        with suppress(NotImplementedError):
            moments = site.fn.mean, site.fn.variance.sqrt()
            if not (is_discrete(site) and moments[0].isnan().any()):  # a Categorical's are NaN
                return {site.name: moments}
    drawn = _values(guide_sites(guide, batch, num_samples))
    return {name: (_real(z).mean(0), _real(z).std(0)) for name, z in drawn.items()}


def _real(z: Tensor) -> Tensor:
    """Return whole numbers as floats, of which a mean can be taken."""
    return z if z.is_floating_point() else z.to(torch.get_default_dtype())


@checked
def pixel_samples(means: Tensor, seed: int = 0) -> Tensor:
    """Draw x ~ p(x | z), black or white: each mean is the probability that its pixel is white."""
    if not (means.numel() and means.is_floating_point() and 0 <= means.min() <= means.max() <= 1):
        raise InputError("means must be floats, at least one, in [0, 1] without NaN")
    check_seed(seed)
    return torch.bernoulli(means, generator=_generator(seed, means.device))


@checked
@one_line_refusals
@in_evaluation_mode
@torch.no_grad()
def posterior_samples(
    model: Program,
    guide: Program,
    x: Tensor,
    *labels: Tensor,
    num_draws: int,
    num_samples: int = 1000,
    seed: int = 0,
) -> tuple[Latents, Tensor]:
    """Draw from p(z | x): `(num_draws, B, d)`, with the effective sample sizes, `(B,)`.

    Sampling-importance-resampling: K = `num_samples` samples of the guide are resampled in
    proportion to their weights p(x, z) / q(z | x). This is exact as K grows; the larger the
    effective sample size, the nearer.
    """
    check_counts(num_draws=num_draws, num_samples=num_samples)
    check_rows(x, *labels)
    with seeded(seed, x):
        latents, w = _weighted(model, guide, [x, *labels], num_samples)
        drawn = resampled(latents, w, num_draws)
    return _bare(drawn), 1 / w.square().sum(0)


@checked
@one_line_refusals
@in_evaluation_mode
@torch.no_grad()
def posterior_mean(
    model: Program,
    guide: Program,
    x: Tensor,
    *labels: Tensor,
    num_samples: int = 100,
    seed: int = 0,
) -> tuple[Latents, Tensor]:
    """Estimate the mean of p(z | x), `(B, d)`; return it and the effective sample sizes, `(B,)`.

    Self-normalised importance sampling: the weighted mean of K = `num_samples` samples of the
    guide.
    """
    check_counts(num_samples=num_samples)
    check_rows(x, *labels)
    means, sizes = [], []
    with seeded(seed, x):
        for batch in batches([x, *labels], len(x) if has_own_numbers(guide) else 100):
            latents, w = _weighted(model, guide, batch, num_samples)
            means.append({name: _weighted_mean(_real(z), w) for name, z in latents.items()})
            sizes.append(1 / w.square().sum(0))
    return _bare({name: torch.cat([m[name] for m in means]) for name in means[0]}), torch.cat(sizes)


def _weighted_mean(z: Tensor, w: Tensor) -> Tensor:
    """Return the mean over K of latents `(K, B, ...)`, with weights `(K, B)`: `(B, ...)`."""
    flat = z.reshape(*w.shape, -1)
    return torch.einsum("kb,kbi->bi", w.to(flat), flat).reshape(z.shape[1:])


def _weighted(
    model: Program, guide: Program, batch: list[Tensor], num_samples: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Draw K samples of the guide, `(K, B, d)`, with normalised weights p(z | x) / q, `(K, B)`."""
    latents, log_q = draw(guide, batch, num_samples)
    return latents, torch.softmax(log_joint_in_chunks(model, batch, latents) - log_q.cpu(), 0)
