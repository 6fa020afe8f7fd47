"""The appendix's networks with a layer of its own for each label."""

from torch import Tensor

from pyro_vae.errors import checked
from pyro_vae.networks.appendix import Decoder, Encoder
from pyro_vae.networks.checks import check_latents
from pyro_vae.networks.labels import LabelLinear


class LabelEncoder(Encoder):
    """As `Encoder`, with a last layer for each label."""

    @checked
    def __init__(self, num_params: int, precision: str = "float32", num_classes: int = 10):
        super().__init__(num_params, precision, num_classes)
        self.g[7] = LabelLinear(128, num_params, num_classes)

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """The numbers of each image, `(*, num_params)`; InputError for wrong images or labels."""
        return self.g[7](self.features(x, *labels), *labels)


class LabelDecoder(Decoder):
    """As `Decoder`, with a first layer for each label: each draws its digit from z in its own way.

    The biases start as far apart as a coordinate of z would move them, so that training meets
    labels that differ, and need not tell them apart by z.
    """

    encoder = LabelEncoder

    @checked
    def __init__(self, latent_dim: int = 4, num_classes: int = 10):
        super().__init__(latent_dim, num_classes)
        self.f[0] = LabelLinear(latent_dim, 128, num_classes, bias_spread=0.5)

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """The logits of each latent, `(*, 1, 28, 28)`; InputError for wrong latents or labels."""
        check_latents(z, self.latent_dim, next(self.parameters()))
        return self.image(self.f[0](z, *labels))
