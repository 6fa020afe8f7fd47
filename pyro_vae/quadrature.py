"""log p(x) and p(z | x) at d = 2 by quadrature over the latent plane: exact, and so a yardstick."""

import math
from typing import NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from pyro_vae.errors import InputError, check_counts, check_number, check_rows, checked
from pyro_vae.importance import Program, log_joint


class Plane(NamedTuple):
    """The posterior of B images on a grid of n x n nodes of its own for each image."""

    log_evidence: Tensor  # log p(x), nats per image, (B,)
    z: Tensor  # nodes, (n * n, B, 2), the second coordinate running fastest
    log_posterior: Tensor  # log p(z | x) at the nodes, (n * n, B)
    cell: Tensor  # area of a node's cell, (B,)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of p(z | x) along both axes, `(B, 2)` each."""
        weight = (self.log_posterior.exp() * self.cell)[..., None]  # (n * n, B, 1)
        mean = (weight * self.z).sum(0)
        return mean, (weight * (self.z - mean).square()).sum(0).sqrt()


@checked
@torch.no_grad()
def integrate_plane(
    model: Program, x: Tensor, *labels: Tensor, points: int = 161, limit: float = 6.0
) -> Plane:
    """Integrate p(x, z) over z in R^2 by the product trapezoid rule.

    A first grid over [-limit, limit]^2 finds where the integrand is more than e^-30 of its maximum;
    a second one of the same size over that box alone, with a margin, gives the integral. Raises
    InputError where the nodes at the edge of the first grid hold 1e-5 of the sum or more. (N(0, I)
    has 4e-9 of its mass beyond a limit of 6. A learned prior may have more; a mode of it that lies
    wholly outside is not noticed.)
    """
    _check_grid(points, limit)
    check_rows(x, *labels)
    ticks = torch.arange(points, dtype=torch.float64)
    nodes = torch.cartesian_prod(ticks, ticks)  # (n * n, 2)

    def grid(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        step = (high - low) / (points - 1)  # (B, 2)
        z = low + nodes[:, None] * step  # (n * n, B, 2)
        return z, step, log_joint(model, [x, *labels], {"z": z.to(x)})

    corner = torch.full((len(x), 2), limit, dtype=torch.float64)
    z, step, log_p = grid(-corner, corner)
    border = ((nodes == 0) | (nodes == points - 1)).sum(1)  # 1 at the edge, 2 in a corner
    share = (log_p[border > 0].logsumexp(0) - log_p.logsumexp(0)).exp()
    if not (share < 1e-5).all():  # NaN is not either
        raise InputError(
            f"p(x, z) reaches the edge of [-{limit:g}, {limit:g}]^2, or is not finite: "
            "raise limit, and points with it"
        )
    inside = (log_p > log_p.amax(0) - 30)[..., None]
    z, step, log_p = grid(
        torch.where(inside, z, math.inf).amin(0) - step,
        torch.where(inside, z, -math.inf).amax(0) + step,
    )
    # trapezoid weights: a node at the edge counts half, in a corner a quarter
    log_cell = step.log().sum(1)
    log_evidence = (log_p - border[:, None] * math.log(2)).logsumexp(0) + log_cell
    return Plane(log_evidence, z, log_p - log_evidence, log_cell.exp())


def _check_grid(points: int, limit: float) -> None:
    check_counts(3, points=points)
    check_number("limit", limit, 1e-9, 1e9)


class Cells(TorchDistribution):
    """The posterior on a plane's grid as a distribution: one density over each node's cell."""

    arg_constraints: dict = {}  # noqa: RUF012  (the name and type that torch asks for)
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, plane: Plane, points: int, dtype: torch.dtype = torch.float64):
        self.points, self.dtype = points, dtype  # of the samples
        self.low = plane.z[0]  # (B, 2), the first node
        self.step = (plane.z[-1] - plane.z[0]) / (points - 1)  # (B, 2)
        # normalised over whole cells, which stick out by half a cell at the border
        self.log_density = plane.log_posterior.log_softmax(0) - plane.cell.log()
        super().__init__(self.low.shape[:1], self.low.shape[1:], validate_args=False)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Draws `(*sample_shape, B, 2)`: a node by its share, and a place in its cell."""
        shape = (*sample_shape, *self.batch_shape)
        count = math.prod(sample_shape)
        node = torch.multinomial(self.log_density.exp().T, count, replacement=True).T.reshape(shape)
        ticks = torch.stack([node // self.points, node % self.points], -1)  # (*, B, 2)
        place = ticks + torch.rand(*shape, 2, dtype=torch.float64) - 0.5
        return (self.low + place * self.step).to(self.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """log density at `value`, `(*, B, 2)`; -inf beyond the grid."""
        ticks = ((value - self.low) / self.step).round().long()
        inside = ((ticks >= 0) & (ticks < self.points)).all(-1)
        first, second = ticks.clamp(0, self.points - 1).unbind(-1)
        node = first * self.points + second  # (*, B)
        density = self.log_density.T.expand(*node.shape, -1).gather(-1, node[..., None])[..., 0]
        return torch.where(inside, density, -math.inf)


class Exact:
    """The exact posterior of a `model` with d = 2, by quadrature, as a guide.

    Perfect importance sampling: every weight is p(x), or p(x | y), but for what the density moves
    within a cell of the grid.
    """

    @checked
    def __init__(self, model: Program, points: int = 241, limit: float = 6.0):
        _check_grid(points, limit)
        self.model, self.points, self.limit = model, points, limit

    def __call__(self, x: Tensor, *labels: Tensor) -> None:
        """Sample "z" of each image, from its posterior, in the plate "data"."""
        with poutine.block():  # the model's own sites are no sites of the guide
            plane = integrate_plane(self.model, x, *labels, points=self.points, limit=self.limit)
        with pyro.plate("data", len(x)):
            pyro.sample("z", Cells(plane, self.points, x.dtype))
