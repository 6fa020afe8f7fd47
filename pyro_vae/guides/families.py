"""Exponential families of pixels: what a decoder's outputs say of log p(x | z) in closed form.

For pixels x_i, independent given z, of an exponential family,

    log p(x | z) = sum_i T(x_i) eta_i(z) + log p(0 | z) + a term of x alone,

where eta are natural parameters, such as the logits of a Bernoulli.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from pyro.distributions import MaskedDistribution, TorchDistribution
from torch import Tensor, distributions


class Family(NamedTuple):
    """Functions of a distribution of pixels, and of pixels."""

    kind: type  # a class of torch's; Pyro's are subclasses
    # parameters, each with its Fisher information: that of all is diagonal
    information: Callable[[distributions.Distribution], list[tuple[Tensor, Tensor]]]
    natural: Callable[[distributions.Distribution], list[Tensor]]  # eta
    statistics: Callable[[Tensor], list[Tensor]] = lambda x: [x]  # T(x)


FAMILIES = (
    *(
        Family(kind, lambda q: [(q.logits, q.variance)], lambda q: [q.logits])
        for kind in (
            distributions.Bernoulli,
            distributions.ContinuousBernoulli,
            distributions.Binomial,
        )
    ),
    Family(distributions.Poisson, lambda q: [(q.rate.log(), q.rate)], lambda q: [q.rate.log()]),
    Family(
        distributions.Normal,
        lambda q: [(q.loc, q.scale**-2), (q.scale.log(), torch.full_like(q.scale, 2.0))],
        lambda q: [q.loc / q.scale**2, -0.5 / q.scale**2],
        lambda x: [x, x.square()],
    ),
)


class Pixels(NamedTuple):
    """The pixels of an observed site: their family, distribution, and which of them count."""

    family: Family
    base: distributions.Distribution  # of each pixel
    mask: Tensor | bool


def pixels_of(fn: TorchDistribution) -> Pixels | None:
    """Return the pixels' distribution within `fn`; None where it is of no family known here."""
    mask: Tensor | bool = True
    while hasattr(fn, "base_dist"):
        if isinstance(fn, MaskedDistribution):
            mask = fn._mask & mask
        elif not isinstance(fn, distributions.Independent):
            return None  # a transformed one, or another
        fn = fn.base_dist
    family = next((family for family in FAMILIES if isinstance(fn, family.kind)), None)
    return family and Pixels(family, fn, mask)
