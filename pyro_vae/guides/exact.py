"""The posterior at d = 2, exact by quadrature, as a guide."""

import math

import pyro
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from pyro_vae.errors import checked
from pyro_vae.likelihood.quadrature import GridPosterior, check_grid, integrate_plane
from pyro_vae.networks.precision import return_to
from pyro_vae.programs import Program


class GridDensity(TorchDistribution):
    """The posterior of B images as a distribution on R^2: constant over each cell of a grid.

    `plane` has the posterior at the nodes of the grid, `points` along each axis, on the CPU. The
    samples have the dtype and device of `like`.
    """

    arg_constraints: dict = {}  # noqa: RUF012  (the name and type that torch asks for)
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, plane: GridPosterior, points: int, like: Tensor):
        self.points, self.like = points, like.new_empty(0)
        self.low = plane.z[0]  # (B, 2), the first node
        self.step = (plane.z[-1] - plane.z[0]) / (points - 1)  # (B, 2)
        # normalised over whole cells, which stick out by half a cell at the border
        self.log_density = plane.log_posterior.log_softmax(0) - plane.cell.log()
        super().__init__(self.low.shape[:1], self.low.shape[1:], validate_args=False)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Draw `(*sample_shape, B, 2)`: a node by its probability, then a place in its cell."""
        shape = (*sample_shape, *self.batch_shape)
        count = math.prod(sample_shape)
        node = torch.multinomial(self.log_density.exp().T, count, replacement=True).T.reshape(shape)
        ticks = torch.stack([node // self.points, node % self.points], -1)  # (*, B, 2)
        place = ticks + torch.rand(*shape, 2, dtype=torch.float64, device="cpu") - 0.5
        return (self.low + place * self.step).to(self.like)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density at `value`, `(*, B, 2)`: `(*, B)`; -inf outside the grid."""
        ticks = ((value.cpu() - self.low) / self.step).round().long()
        inside = ((ticks >= 0) & (ticks < self.points)).all(-1)
        first, second = ticks.clamp(0, self.points - 1).unbind(-1)
        node = first * self.points + second  # (*, B)
        density = self.log_density.T.expand(*node.shape, -1).gather(-1, node[..., None])[..., 0]
        return return_to(value, torch.where(inside, density, -math.inf))


class ExactGuide:
    """The posterior of a `model` with d = 2, by quadrature (see `integrate_plane`), as a guide.

    The perfect proposal: every importance weight is p(x), or p(x | y), up to the change of the
    density within a cell of the grid. `points` nodes along each axis, over
    [-half_width, half_width]^2 at first.

    >>> from pyro_vae import ExactGuide, Vae, load_dataset, log_weights
    >>> model, x = Vae.build(2, architecture="dense").model, load_dataset("digits").test_images[:1]
    >>> log_w = log_weights(model, ExactGuide(model, points=101), x, num_samples=100)
    >>> bool(log_w.std() < 0.1)  # all weights are equal, but for the grid
    True
    """

    @checked
    def __init__(self, model: Program, points: int = 241, half_width: float = 6.0):
        check_grid(points, half_width)
        self.model, self.points, self.half_width = model, points, half_width

    def __call__(self, x: Tensor, *labels: Tensor) -> None:
        """Sample "z" of each image from its posterior, in the plate "data"."""
        with poutine.block():  # the model's sites are no sites of the guide
            plane = integrate_plane(
                self.model, x, *labels, points=self.points, half_width=self.half_width
            )
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", GridDensity(plane, self.points, x))
