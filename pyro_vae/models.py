"""Generators as Pyro models: p(z) p(x | z), and p(z) p(x | z, y) where the decoder takes y."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
from pyro.distributions import constraints
from torch import Tensor, nn

from pyro_vae.data import check_images


class GreyBernoulli(dist.Bernoulli):
    """A Bernoulli whose log density is also defined for grey values between 0 and 1.

    At a grey pixel x in (0, 1) with probability p it gives x log p + (1 - x) log(1 - p): the
    appendix's score. It is a surrogate, not a density over [0, 1], and at most minus the binary
    entropy of x. Validation stays on: a pixel outside [0, 1], or NaN, is an error. Samples are
    0 or 1.
    """

    support = constraints.unit_interval


class Model(nn.Module):
    """z_b ~ N(0, I_d), x_b ~ pixels(decoder(z_b)), independently for the images b of a batch.

    Called as `model(x)`, or `model(x, y)` where the decoder takes labels, it places the latent site
    "z", event shape `(d,)`, and the observed site "x", event shape `(1, 28, 28)`, in one plate
    "data" over the B images of `x`, shape `(B, 1, 28, 28)`. `pixels` gives the distribution of the
    pixels from their logits; both sites have log probabilities in nats per image.
    """

    def __init__(
        self, decoder: nn.Module, pixels: Callable[..., dist.TorchDistribution] = GreyBernoulli
    ):
        super().__init__()
        self.decoder = decoder
        self.pixels = pixels

    def forward(self, x: Tensor, *labels: Tensor) -> None:
        check_images(x)
        prior = dist.Normal(x.new_zeros(self.decoder.latent_dim), 1).to_event(1)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            pyro.sample("x", self.pixels(logits=self.decoder(z, *labels)).to_event(3), obs=x)
