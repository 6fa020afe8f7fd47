"""The appendix's networks, with one layer each that depends on the label."""

from torch import Tensor

from pyro_vae.errors import checked
from pyro_vae.networks.appendix import Decoder, Encoder
from pyro_vae.networks.checks import check_latents
from pyro_vae.networks.labels import LabelLinear


class LabelEncoder(Encoder):
    """An `Encoder` whose last layer is one for each label."""

    @checked
    def __init__(self, num_params: int, precision: str = "float32", num_classes: int = 10):
        super().__init__(num_params, precision, num_classes)
        self.g[7] = LabelLinear(128, num_params, num_classes)

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """Return the parameters of q, `(*, num_params)`; InputError for wrong images or labels."""
        return self.g[7](self.features(x, *labels), *labels)


class LabelDecoder(Decoder):
    """A `Decoder` whose first layer is one for each label: each digit has its own way from z.

    The biases start about as far apart as one coordinate of z moves them. So the labels differ from
    the first step of training, and z need not tell them apart.
    """

    encoder = LabelEncoder

    @checked
    def __init__(self, latent_dim: int = 4, num_classes: int = 10):
        super().__init__(latent_dim, num_classes)
        self.f[0] = LabelLinear(latent_dim, 128, num_classes, bias_spread=0.5)

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Return the logits, `(*, 1, 28, 28)`; InputError for wrong latents or labels."""
        check_latents(z, self.latent_dim, next(self.parameters()))
        return self.image(self.f[0](z, *labels))
