"""Amortised guides: an encoder and a family of distributions."""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.errors import checked
from pyro_vae.models import Model


class Amortised(nn.Module):
    """q(z | x) = distribution(encoder(x)), an encoder of the decoder's make and a family.

    A subclass says how many numbers its family needs of an image, and makes a distribution of
    them, with batch shape `(B,)` and event shape `(d,)`.

    Args:
        model: what it is a guide for; its decoder names the encoder that goes with it.
        num_params: numbers an image that the encoder gives.
        precision: of the encoder's convolutions; see `pyro_vae.networks.resolve_precision`.
    """

    @checked
    def __init__(self, model: Model, num_params: int, precision: str = "auto"):
        super().__init__()
        self.encoder = model.decoder.encoder(num_params, precision, model.decoder.num_classes)

    def distribution(self, params: Tensor) -> dist.TorchDistribution:
        """The family's member at `params`, shape `(B, num_params)`."""
        raise NotImplementedError

    def q(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """q(z | x) of each image."""
        return self.distribution(self.encoder(x, *labels))

    def forward(self, x: Tensor, *labels: Tensor) -> None:
        """Sample "z" of each image, from q(z | x), in the plate "data"."""
        q = self.q(x, *labels)
        with pyro.plate("data", len(x)):
            pyro.sample("z", q)
