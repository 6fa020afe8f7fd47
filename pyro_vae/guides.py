"""Encoders as Pyro guides: q(z | x), and q(z | x, y) where the encoder takes y.

A guide is any callable with the model's signature that samples the model's latent sites inside a
plate "data" over the images. Nothing here or elsewhere asks for its class.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn


class MeanField(nn.Module):
    """The appendix's guide: z_b ~ N(loc_b, diag(scale_b^2)), (loc, scale) = encoder(x)."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, *labels: Tensor) -> None:
        loc, scale = self.encoder(x, *labels)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))
