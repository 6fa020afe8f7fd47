"""log p(x) and p(z | x) at d = 2 by quadrature over the latent plane: exact, and so a yardstick."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_vae.errors import InputError
from pyro_vae.importance import Program, log_joint


class Plane(NamedTuple):
    """The posterior of B images on a grid of n x n nodes of its own for each image."""

    log_evidence: Tensor  # log p(x), nats per image, (B,)
    z: Tensor  # nodes, (n * n, B, 2), the second coordinate running fastest
    log_posterior: Tensor  # log p(z | x) at the nodes, (n * n, B)
    cell: Tensor  # area of a node's cell, (B,)


@torch.no_grad()
def integrate_plane(
    model: Program, x: Tensor, *labels: Tensor, points: int = 161, limit: float = 6.0
) -> Plane:
    """Integrate p(x, z) over z in R^2 by the product trapezoid rule.

    A first grid over [-limit, limit]^2 finds where the integrand is more than e^-30 of its maximum;
    a second one of the same size over that box alone, with a margin, gives the integral. What is
    left outside the first grid is at most 4e-9 of the prior mass at limit = 6.
    """
    if points < 3 or not limit > 0:
        raise InputError(f"points must be >= 3 and limit > 0, not {points} and {limit}")
    ticks = torch.arange(points, dtype=torch.float64)
    nodes = torch.cartesian_prod(ticks, ticks)  # (n * n, 2)

    def grid(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        step = (high - low) / (points - 1)  # (B, 2)
        z = low + nodes[:, None] * step  # (n * n, B, 2)
        return z, step, log_joint(model, [x, *labels], {"z": z.to(x)})

    corner = torch.full((len(x), 2), limit, dtype=torch.float64)
    z, step, log_p = grid(-corner, corner)
    inside = (log_p > log_p.amax(0) - 30)[..., None]
    z, step, log_p = grid(
        torch.where(inside, z, math.inf).amin(0) - step,
        torch.where(inside, z, -math.inf).amax(0) + step,
    )
    # trapezoid weights: a node on the border counts half, in a corner a quarter
    border = ((nodes == 0) | (nodes == points - 1)).sum(1)
    log_cell = step.log().sum(1)
    log_evidence = (log_p - border[:, None] * math.log(2)).logsumexp(0) + log_cell
    return Plane(log_evidence, z, log_p - log_evidence, log_cell.exp())
