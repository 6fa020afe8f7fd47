"""log p(x) and p(z | x) at d = 2 by quadrature over the latent plane: exact reference values."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_vae.complaints import one_line_refusals
from pyro_vae.errors import InputError, check_counts, check_number, check_rows, checked
from pyro_vae.likelihood.coordinates import coordinates_of, is_discrete
from pyro_vae.likelihood.importance import log_joint_in_chunks
from pyro_vae.likelihood.sites import run
from pyro_vae.programs import Program, in_evaluation_mode
from pyro_vae.seeds import seeded


class GridPosterior(NamedTuple):
    """The posterior of B images, each on its own grid of n x n nodes."""

    log_evidence: Tensor  # log p(x), nats per image, (B,)
    z: Tensor  # nodes, (n * n, B, 2), the second coordinate running fastest
    log_posterior: Tensor  # log p(z | x) at the nodes, (n * n, B)
    cell: Tensor  # area of a node's cell, (B,)
    name: str  # of the latent site

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of p(z | x) along both axes, `(B, 2)` each."""
        weight = (self.log_posterior.exp() * self.cell)[..., None]  # (n * n, B, 1)
        mean = (weight * self.z).sum(0)
        return mean, (weight * (self.z - mean).square()).sum(0).sqrt()


@checked
@one_line_refusals
@in_evaluation_mode
@torch.no_grad()
def integrate_plane(
    model: Program, x: Tensor, *labels: Tensor, points: int = 161, half_width: float = 6.0
) -> GridPosterior:
    """Integrate p(x, z) over z in R^2 by the product trapezoid rule, with `points` nodes an axis.

    A first grid over [-half_width, half_width]^2 finds the box where the integrand is more than
    e^-30 of its maximum. A second grid over that box, with a margin, gives the integral. Raises
    InputError where the edge of the first grid holds 1e-5 of the sum or more. N(0, I) has 4e-9 of
    its mass beyond the default half-width. A mode that lies wholly outside goes unnoticed.

    The model may be any Pyro program with one latent site, z in R^2.

    >>> from pyro_vae import LinearGaussian, integrate_plane
    >>> problem = LinearGaussian()  # whose log p(x) is known
    >>> x = problem.data(2)
    >>> error = integrate_plane(problem.model, x).log_evidence - problem.log_likelihood(x)
    >>> bool(error.abs().max() < 1e-9)
    True
    """
    check_grid(points, half_width)
    check_rows(x, *labels)
    name = _latent_in_the_plane(model, [tensor[:1] for tensor in (x, *labels)])
    ticks = torch.arange(points, dtype=torch.float64, device="cpu")
    nodes = torch.cartesian_prod(ticks, ticks)  # (n * n, 2)

    def grid(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        step = (high - low) / (points - 1)  # (B, 2)
        z = low + nodes[:, None] * step  # (n * n, B, 2)
        return z, step, log_joint_in_chunks(model, [x, *labels], {name: z.to(x)})

    corner = nodes.new_full((len(x), 2), half_width)
    z, step, log_p = grid(-corner, corner)
    border = ((nodes == 0) | (nodes == points - 1)).sum(1)  # 1 at the edge, 2 in a corner
    at_edge = (log_p[border > 0].logsumexp(0) - log_p.logsumexp(0)).exp()
    if not (at_edge < 1e-5).all():  # false for NaN too
        raise InputError(
            f"p(x, z) reaches the edge of [-{half_width:g}, {half_width:g}]^2, or is not finite: "
            "raise half_width, and points with it"
        )
    inside = (log_p > log_p.amax(0) - 30)[..., None]
    z, step, log_p = grid(
        torch.where(inside, z, math.inf).amin(0) - step,
        torch.where(inside, z, -math.inf).amax(0) + step,
    )
    # trapezoid weights: a node at the edge counts half, in a corner a quarter
    log_cell = step.log().sum(1)
    log_evidence = (log_p - border[:, None] * math.log(2)).logsumexp(0) + log_cell
    return GridPosterior(log_evidence, z, log_p - log_evidence, log_cell.exp(), name)


def _latent_in_the_plane(model: Program, batch: list[Tensor]) -> str:
    """Return the name of the model's only latent; raise InputError unless it is in R^2."""
    with seeded(0, batch[0]):
        sites = [site for site in run(model, batch) if not site.observed]
    if len(sites) == 1 and not is_discrete(sites[0]):
        (coordinate,) = coordinates_of(model, batch, [sites[0].name])
        if coordinate.is_vector and coordinate.shape == (2,):
            return coordinate.name
    shapes = {site.name: tuple(site.fn.event_shape) for site in sites}
    raise InputError(
        "model must have one latent, two real numbers, to be integrated over: it has latents of "
        f"shapes {shapes}; use log_likelihood"
    )


def check_grid(points: int, half_width: float) -> None:
    check_counts(3, points=points)
    check_number("half_width", half_width, 1e-9, 1e9)
