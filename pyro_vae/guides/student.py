"""Mixtures of heavy-tailed elliptical distributions: the refined guide's proposals."""

import math

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from pyro_vae.networks.precision import return_to, to_float64_device

# Each component is itself a mixture of t distributions with one location and one scatter matrix:
# (weight, degrees of freedom, factor on the scale). The first fits the bulk. The others are wider
# and have heavier tails: they bound the weights where the posterior is wider than its fit.
T_COMPONENTS = ((0.6, 30.0, 1.0), (0.3, 15.0, 1.15), (0.1, 4.0, 1.5))


class StudentMixture(TorchDistribution):
    """A mixture of C elliptical components on R^d for each of B images.

    The t density is written out, not Pyro's MultivariateStudentT, so that one squared radius, by an
    inverse computed once, serves all `T_COMPONENTS` of a component.

    Args:
        loc: locations, `(B, C, d)`.
        scale_tril: lower Cholesky factors of the scatter matrices, `(B, C, d, d)`.
        log_mixture_weights: `(B, C)`; -inf switches a component off.
        like: samples have its dtype and device. Parameters and densities are float64, since scatter
            matrices span many orders of magnitude; they lie on the CPU where the device has no
            float64. A density is always that of the sample as rounded.
    """

    arg_constraints: dict = {}  # noqa: RUF012  (the name and type that torch asks for)
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, loc: Tensor, scale_tril: Tensor, log_mixture_weights: Tensor, like: Tensor):
        self.loc, self.scale_tril, self.log_mixture_weights = loc, scale_tril, log_mixture_weights
        self.like = like.new_empty(0)
        self.inverse = torch.linalg.inv(scale_tril)
        self.log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # (B, C)
        super().__init__(loc.shape[:1], loc.shape[-1:], validate_args=False)

    def rows(self, rows: Tensor) -> "StudentMixture":
        """Return the mixtures of some of the images."""
        return StudentMixture(*(mine[rows] for mine in self.parameters()), self.like)

    def replaced(self, rows: Tensor, other: "StudentMixture") -> "StudentMixture":
        """Return these mixtures, those of some images replaced by `other`, of equally many."""
        parts = (
            mine.index_copy(0, rows.to(mine.device), new)
            for mine, new in zip(self.parameters(), other.parameters(), strict=True)
        )
        return StudentMixture(*parts, self.like)

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the locations, the factors of the scatter matrices and the log weights."""
        return self.loc, self.scale_tril, self.log_mixture_weights

    def component_log_prob(self, value: Tensor) -> Tensor:
        """Return log(weight x density) of each component at `value`, `(*, B, d)`: `(*, B, C)`."""
        d = self.loc.shape[-1]
        parts = []
        for c in range(self.loc.shape[1]):
            centred = to_float64_device(value).double() - self.loc[:, c]
            white = torch.einsum("bij,...bj->...bi", self.inverse[:, c], centred)
            radius = white.square().sum(-1)  # squared, (*, B)
            parts.append(torch.stack([_log_t(radius, d, *spec) for spec in T_COMPONENTS]))
        densities = torch.stack(parts, -1).logsumexp(0)  # (*, B, C)
        return self.log_mixture_weights + densities - self.log_det

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density at `value`, `(*, B, d)`: `(*, B)`."""
        return return_to(value, self.component_log_prob(value).logsumexp(-1))

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Draw `(*sample_shape, B, d)`."""
        shape = (*sample_shape, *self.batch_shape)
        component = torch.distributions.Categorical(logits=self.log_mixture_weights).sample(
            sample_shape
        )
        on_cpu = {"dtype": torch.float32, "device": "cpu"}
        weights, degrees, factors = torch.tensor(T_COMPONENTS, **on_cpu).to(self.loc).T
        t = torch.multinomial(weights, math.prod(shape), replacement=True).view(shape)
        df, factor = degrees[t], factors[t]
        chi2 = torch.distributions.Chi2(df).sample()
        noise = torch.randn(*shape, self.loc.shape[-1], **on_cpu).to(self.loc)
        noise = noise * (factor * (df / chi2).sqrt())[..., None]
        value = torch.empty_like(noise)
        for c in range(self.loc.shape[1]):
            drawn = self.loc[:, c] + torch.einsum("bij,...bj->...bi", self.scale_tril[:, c], noise)
            value = torch.where((component == c)[..., None], drawn, value)
        return value.to(self.like)


def _log_t(radius: Tensor, d: int, weight: float, df: float, factor: float) -> Tensor:
    """Return log(weight x t density on R^d) at the squared radius `radius`, for unit scatter."""
    constant = (
        math.log(weight)
        + math.lgamma((df + d) / 2)
        - math.lgamma(df / 2)
        - d / 2 * math.log(df * math.pi * factor**2)
    )
    return constant - (df + d) / 2 * torch.log1p(radius / (df * factor**2))
