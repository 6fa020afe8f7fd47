"""What every amortised guide shares: an encoder, and a family of distributions."""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.errors import checked
from pyro_vae.models import Model


class Amortised(nn.Module):
    """q(z | x) = distribution(encoder(x)): subclass it for a guide of your own.

    A subclass says how many parameters its family needs for an image, and makes the distribution
    from them. It has batch shape `(B,)` and event shape `(d,)`. A Laplace guide, for instance:

    >>> import torch
    >>> from pyro.distributions import Laplace
    >>> from pyro_vae import Amortised, Decoder, Model, log_likelihood
    >>> class LaplaceGuide(Amortised):
    ...     def __init__(self, model):
    ...         super().__init__(model, num_params=2 * model.decoder.latent_dim)
    ...
    ...     def distribution(self, params):
    ...         loc, log_scale = params.chunk(2, -1)
    ...         return Laplace(loc, log_scale.exp()).to_event(1)
    >>> model = Model(Decoder(latent_dim=2))
    >>> log_likelihood(model, LaplaceGuide(model), torch.zeros(3, 1, 28, 28)).value.shape
    (3,)

    Args:
        model: the model to guide; its decoder names the matching encoder class.
        num_params: how many parameters the encoder gives for an image.
        precision: of the encoder; see `pyro_vae.networks.precision.resolve_precision`.
    """

    @checked
    def __init__(self, model: Model, num_params: int, precision: str = "auto"):
        super().__init__()
        self.encoder = model.decoder.encoder(num_params, precision, model.decoder.num_classes)

    def distribution(self, params: Tensor) -> dist.TorchDistribution:
        """Return the member of the family with parameters `params`, `(B, num_params)`."""
        raise NotImplementedError

    def q(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """Return q(z | x) of each image."""
        return self.distribution(self.encoder(x, *labels))

    def forward(self, x: Tensor, *labels: Tensor) -> None:
        """Sample "z" of each image from q(z | x), in the plate "data"."""
        q = self.q(x, *labels)
        with pyro.plate("data", len(x)):
            pyro.sample("z", q)


class UsesModel:
    """A guide that calls the model itself.

    The model is kept in a tuple: as an attribute it would be a submodule, and its parameters would
    count as the guide's.
    """

    def use(self, model: Model) -> None:
        """Keep `model`; call it after `nn.Module.__init__`."""
        self.target = (model,)

    @property
    def model(self) -> Model:
        """The model that the guide is for."""
        return self.target[0]
