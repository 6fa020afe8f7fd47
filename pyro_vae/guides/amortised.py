"""What every amortised guide shares: an encoder, and a family of distributions."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.errors import InputError, checked
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
    ...         super().__init__(model, num_params=2 * model.latent_dim)
    ...
    ...     def distribution(self, params):
    ...         loc, log_scale = params.chunk(2, -1)
    ...         return Laplace(loc, log_scale.exp()).to_event(1)
    >>> model = Model(Decoder(latent_dim=2))
    >>> log_likelihood(model, LaplaceGuide(model), torch.zeros(3, 1, 28, 28)).value.shape
    (3,)

    Images have any shape that the encoder takes. A decoder of your own names the matching encoder
    class as `encoder`. It is called as `encoder(num_params, precision, num_classes)`, the last from
    the decoder's `num_classes`, or 0; its module maps images, and labels, to `(B, num_params)`.

    Args:
        model: the model to guide, whose decoder names the encoder.
        num_params: how many parameters the encoder gives for an image.
        precision: of the encoder; see `pyro_vae.networks.precision.resolve_precision`.
    """

    @checked
    def __init__(self, model: Model, num_params: int, precision: str = "auto"):
        super().__init__()
        decoder = model.decoder
        if not hasattr(decoder, "encoder"):
            raise InputError(
                f"decoder {type(decoder).__name__} must name the class of its encoder as `encoder`"
            )
        num_classes = getattr(decoder, "num_classes", 0)
        self.encoder = decoder.encoder(num_params, precision, num_classes)

    def distribution(self, params: Tensor) -> dist.TorchDistribution:
        """Return the member of the family with parameters `params`, `(B, num_params)`."""
        raise NotImplementedError

    def q(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """Return q(z | x) of each image."""
        return self.distribution(self.encoder(x, *labels))

    def forward(self, x: Tensor, *labels: Tensor) -> None:
        """Sample "z" of each image from q(z | x), in the plate "data"."""
        q = self.q(x, *labels)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", q)


def refuse_jit(guide: Amortised) -> None:
    """Raise InputError where torch.jit traces the guide, as Pyro's JitTrace_ELBO has it do."""
    if torch.jit.is_tracing():
        raise InputError(
            f"torch.jit cannot trace a {type(guide).__name__} guide: use Trace_ELBO, "
            "or a guide such as MeanField"
        )


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
