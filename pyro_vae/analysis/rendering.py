"""Images from the latents of any Pyro program, whatever its sites are called."""

from math import prod

import torch
from torch import Tensor

from pyro_vae.errors import InputError, check_rows, describe
from pyro_vae.likelihood.sites import Site, run
from pyro_vae.likelihood.traces import sites_at
from pyro_vae.programs import Program, modules_of
from pyro_vae.seeds import seeded


def device_of(program: Program, like: Tensor) -> torch.device:
    """Return where the program's weights are, or `like` where it has none."""
    weights = (w for module in modules_of(program) for w in module.parameters())
    return next(weights, like).device


def rows_like(model: Program, like: Tensor | None, n: int, *labels: Tensor) -> list[Tensor]:
    """Return `n` images like `like`, and the first `n` of the labels, where the weights are."""
    if like is None:
        raise InputError(
            "like must be images that the model takes, since their shape is needed: give "
            "like=x[:1], or Vae(model, guide, example=x[:1])"
        )
    check_rows(like, first="like")
    rows = [like[:1].repeat(n, *[1] * (like.dim() - 1)), *(y[:n] for y in labels)]
    return [tensor.to(device_of(model, like)) for tensor in rows]


def latent_sites(model: Program, batch: list[Tensor]) -> list[Site]:
    """Return the model's latent sites, from one run of it."""
    with seeded(0, batch[0]):
        sites = run(model, batch)
    latents = [site for site in sites if not site.observed]
    if not latents:
        raise InputError("the model samples nothing: it must sample its latents")
    return latents


def shared_lead(latents: dict[str, Tensor], sites: list[Site]) -> torch.Size:
    """Return the leading dimensions that all latents share; raise InputError if they do not fit."""
    shapes = {site.name: site.fn.event_shape for site in sites}
    if latents.keys() != shapes.keys():
        raise InputError(f"z must hold the model's latents {sorted(shapes)}, not {sorted(latents)}")
    leads = set()
    for name, value in latents.items():
        event = shapes[name]
        lead = value.shape[: value.dim() - len(event)]
        if value.shape[len(lead) :] != event:
            wanted = f"(*, {', '.join(map(str, event))})" if event else "(*)"
            raise InputError(f"{name} must have shape {wanted}, not {tuple(value.shape)}")
        leads.add(lead)
    if len(leads) > 1:
        raise InputError(f"z must hold as many of each latent, not {describe(latents)}")
    return leads.pop()


def mean_images(
    model: Program, batch: list[Tensor], latents: dict[str, Tensor], pixels: bool = False
) -> Tensor:
    """Return the mean images of p(x | z) of latents `(B, ...)`, or draws of it with `pixels`.

    Latents that are not given are drawn. The images have the shape of those in `batch` where the
    model observes as many numbers, else the observed site's.
    """
    held = {name: value[None] for name, value in latents.items()}
    sites = sites_at(model, batch, held) if held else run(model, batch)
    site = _observed([site for site in sites if site.observed and site.name not in latents], batch)
    try:
        images = site.fn.sample() if pixels else site.fn.mean
    except NotImplementedError:
        images = torch.tensor(torch.nan, device="cpu")
    if not images.isfinite().all():
        raise InputError(
            f"observed site {site.name!r}, a {type(site.fn).__name__}, has no finite mean: draw "
            "images by simulate"
        )
    return images.reshape(batch[0].shape) if images.numel() == batch[0].numel() else images


def _observed(sites: list[Site], batch: list[Tensor]) -> Site:
    """Return the site that observes the images: the only one, or the only one of their size."""
    size = prod(batch[0].shape[1:])
    if len(sites) > 1:
        names = [site.name for site in sites]
        sites = [site for site in sites if site.fn.event_shape.numel() == size]
    else:
        names = []
    if len(sites) != 1:
        raise InputError(f"model must have one site that observes the images, not {names}")
    return sites[0]
