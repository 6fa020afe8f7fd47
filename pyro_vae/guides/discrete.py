"""Distributions of a discrete latent, and of continuous ones given its value."""

import torch
from pyro.distributions import Categorical, TorchDistribution, constraints
from torch import Tensor

from pyro_vae.guides.student import StudentMixture


class Values(TorchDistribution):
    """One of C values for each of B images: `values[c]` with probability `probs[b, c]`.

    Args:
        values: `(C, *event)`, all different.
        probs: `(B, C)`.
    """

    arg_constraints: dict = {}  # noqa: RUF012  (the name and type that torch asks for)
    support = constraints.nonnegative_integer  # of the index: discrete
    has_rsample = False

    def __init__(self, values: Tensor, probs: Tensor):
        self.values, self.index_distribution = values, Categorical(probs)
        super().__init__(probs.shape[:1], values.shape[1:], validate_args=False)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Draw `(*sample_shape, B, *event)`."""
        return self.values[self.index_distribution.sample(sample_shape)]

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log probability of values `(*, B, *event)`: `(*, B)`."""
        return self.index_distribution.log_prob(self.index(value))

    def index(self, value: Tensor) -> Tensor:
        """Return which of the C values each of `value`, `(*, B, *event)`, is: `(*, B)`."""
        batch_shape = value.shape[: value.dim() - len(self.event_shape)]
        flat = value.reshape(*batch_shape, 1, -1)
        return (flat == self.values.reshape(len(self.values), -1)).all(-1).long().argmax(-1)


class Chosen(TorchDistribution):
    """Of C proposals for each of B images, the one with the given index.

    Args:
        proposals: C mixtures, each of batch shape `(B,)`.
        index: `(*, B)`, the batch shape of this distribution.
    """

    arg_constraints: dict = {}  # noqa: RUF012
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, proposals: list[StudentMixture], index: Tensor):
        self.proposals, self.index = proposals, index
        super().__init__(index.shape, proposals[0].event_shape, validate_args=False)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Draw `(*sample_shape, *, B, d)`."""
        shape = (*sample_shape, *self.index.shape[:-1])
        return self._choose([q.sample(shape) for q in self.proposals], self.index[..., None])

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density at `value`, `(*, B, d)`: `(*, B)`."""
        return self._choose([q.log_prob(value) for q in self.proposals], self.index)

    def _choose(self, options: list[Tensor], index: Tensor) -> Tensor:
        result = options[0]
        for c, option in enumerate(options[1:], 1):
            result = torch.where(index == c, option, result)
        return result
