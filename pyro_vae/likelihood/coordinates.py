"""Latents of any shape and support as one unconstrained real vector u for each image.

Each latent site s has a bijection T_s from R^n to its support (Pyro's `biject_to`), such as exp to
the positive numbers. With z = T(u), densities change by the Jacobian's determinant:

    log p(u) = log p(z) + sum_s log |det dT_s / du_s|.
"""

import math
from typing import NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.transforms import Transform

from pyro_vae.errors import InputError
from pyro_vae.likelihood.sites import Site, innermost, run
from pyro_vae.programs import Program
from pyro_vae.seeds import seeded


class Coordinate(NamedTuple):
    """The part of u that belongs to one latent site."""

    name: str
    transform: Transform  # T_s
    shape: torch.Size  # of u_s; the site's event shape may be another, as on a simplex
    event_dim: int  # of the site
    is_vector: bool  # whether the site is u_s itself, unconstrained


def is_discrete(site: Site) -> bool:
    """Return whether a site's values have no gradient."""
    return site.fn.support.is_discrete


@torch.no_grad()
def coordinates_of(program: Program, batch: list[Tensor], names: list[str]) -> list[Coordinate]:
    """Return the coordinates of a program's continuous latents, the sites with these names.

    The program runs twice, with other draws: a support that differs depends on other latents.
    """
    with seeded(0, batch[0]):
        runs = [{site.name: site for site in run(program, batch)} for _ in range(2)]
    coordinates = []
    for name in names:
        first, second = (_coordinate(sites[name]) for sites in runs)
        like = runs[0][name].value
        at = torch.linspace(
            -1, 1, max(1, first.shape.numel()), device=like.device, dtype=like.dtype
        )
        a, b = torch.broadcast_tensors(*(c.transform(at.view(c.shape)) for c in (first, second)))
        if not torch.allclose(a, b):
            raise InputError(
                f"the support of latent {name!r} depends on other latents: let another latent, of "
                "a fixed support, be drawn, and compute this one from it"
            )
        coordinates.append(first)
    return coordinates


def _coordinate(site: Site) -> Coordinate:
    """Return the coordinate of a continuous site, from a run: its value is `(b, ...)`."""
    event_dim = site.fn.event_dim
    try:
        transform = biject_to(_support(site.fn))
    except NotImplementedError as error:
        raise InputError(
            f"latent {site.name!r} has a support that Pyro cannot map to real numbers "
            f"({site.fn.support}): use log_likelihood with a guide of your own"
        ) from error
    u = transform.inv(site.value)
    shape = u.shape[site.value.dim() - event_dim :]
    return Coordinate(site.name, transform, shape, event_dim, event_dim == 1 and u is site.value)


def _support(fn: dist.TorchDistribution) -> constraints.Constraint:
    # torch calls angles real numbers, but their density repeats itself
    if isinstance(innermost(fn), dist.VonMises):
        return constraints.interval(-math.pi, math.pi)
    return fn.support


def to_latents(coordinates: list[Coordinate], u: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return the latents T(u) of u, `(*, D)`, and log |det dT / du|, `(*)`."""
    latents, log_det = {}, u.new_zeros(u.shape[:-1])
    for c, part in zip(
        coordinates, u.split([c.shape.numel() for c in coordinates], -1), strict=True
    ):
        part = part.unflatten(-1, c.shape) if c.shape else part.squeeze(-1)
        latents[c.name] = c.transform(part)
        jacobian = c.transform.log_abs_det_jacobian(part, latents[c.name])
        log_det = log_det + sum_rightmost(jacobian, jacobian.dim() - log_det.dim())
    return latents, log_det


def from_latents(coordinates: list[Coordinate], latents: dict[str, Tensor]) -> Tensor:
    """Return u = T^-1(z), `(*, D)`, of latents `(*, ...)`; there must be one at least."""
    parts = []
    for c in coordinates:
        part = c.transform.inv(latents[c.name])
        parts.append(part.flatten(part.dim() - len(c.shape)) if c.shape else part[..., None])
    return torch.cat(parts, -1)
