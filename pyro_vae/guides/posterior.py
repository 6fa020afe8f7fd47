"""The posterior of each image of a batch, p(z | x), as a function of one real vector u.

z = T(u) are the latents of an image (`pyro_vae.likelihood.coordinates`), so that

    log p(x, u) = log p(x | z) + log p(z) + log |det dT / du|,

and the last two are called the prior here.
"""

from collections.abc import Callable
from typing import NamedTuple

from pyro import poutine
from torch import Tensor

from pyro_vae.likelihood.coordinates import Coordinate, to_latents
from pyro_vae.likelihood.importance import default_chunk_size
from pyro_vae.likelihood.sites import Site
from pyro_vae.likelihood.traces import log_joint, sites_at
from pyro_vae.programs import Program

LogJoint = Callable[[Tensor], Tensor]  # u, (K, B, D), to log p(x, u), (K, B)


class Posterior(NamedTuple):
    """p(u | x) of B images, up to p(x)."""

    model: Program
    batch: list[Tensor]  # `[x]`, or `[x, y]`
    coordinates: list[Coordinate]
    held: dict[str, Tensor]  # the value `(B, ...)` of a discrete latent, where there is one

    def conditioned(self) -> Program:
        """Return the model with the discrete latent held."""
        return poutine.condition(self.model, data=self.held)

    def rows(self, rows: Tensor | slice) -> "Posterior":
        """Return the posterior of some of the images."""
        held = {name: value[rows] for name, value in self.held.items()}
        return self._replace(batch=[tensor[rows] for tensor in self.batch], held=held)

    def log_joint(self, u: Tensor) -> Tensor:
        """Return log p(x, u), `(K, B)`, at u, `(K, B, D)`."""
        latents, log_det = self._latents(u)
        return log_joint(self.model, self.batch, latents, observes=True) + log_det

    def parts(self, u: Tensor) -> tuple[Tensor, list[Site]]:
        """Return the log density of the prior, `(K, B)`, and the observed sites, at u."""
        latents, log_prior = self._latents(u)
        sites = sites_at(self.model, self.batch, latents)
        for site in sites:
            if not site.observed or site.name in latents:
                log_prior = log_prior + site.log_prob
        return log_prior, [site for site in sites if site.name not in latents]

    def _latents(self, u: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        latents, log_det = to_latents(self.coordinates, u)
        held = {name: value.expand(len(u), *value.shape) for name, value in self.held.items()}
        return latents | held, log_det


def pieces(u: Tensor) -> tuple[Tensor, ...]:
    """Cut draws, `(K, B, D)`, into as many as the device scores fastest at a time."""
    return u.split(max(1, default_chunk_size(u) // u.shape[1]))
