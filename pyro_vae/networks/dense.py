"""PyTorch's example autoencoder: fully connected.

784-400-20-400-784, ReLU: https://github.com/pytorch/examples/tree/main/vae
"""

from torch import Tensor, nn

from pyro_vae.errors import check_counts, checked
from pyro_vae.networks.checks import check_latents, check_pixels
from pyro_vae.networks.labels import concat_one_hot
from pyro_vae.networks.precision import autocast, resolve_precision


class DenseEncoder(nn.Module):
    """Map images to the parameters of q(z | x), as `Encoder` does, by one hidden layer."""

    @checked
    def __init__(
        self, num_params: int, precision: str = "float32", num_classes: int = 0, hidden: int = 400
    ):
        super().__init__()
        check_counts(num_params=num_params, hidden=hidden)
        check_counts(0, num_classes=num_classes)
        self.precision, self.num_classes = resolve_precision(precision), num_classes
        self.g = nn.Sequential(
            nn.Linear(28 * 28 + num_classes, hidden), nn.ReLU(), nn.Linear(hidden, num_params)
        )

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """Return the parameters of q, `(*, num_params)`; InputError for wrong images or labels."""
        check_pixels(x, self.g[0].weight)
        pixels = concat_one_hot(x.flatten(-3), self.num_classes, *labels)
        with autocast(self.precision, x):
            hidden = self.g[:2](pixels)
        return self.g[2](hidden.to(x.dtype))


class DenseDecoder(nn.Module):
    """Map latents to logits, as `Decoder` does, by one hidden layer; the example has d = 20."""

    encoder = DenseEncoder

    @checked
    def __init__(self, latent_dim: int = 20, num_classes: int = 0, hidden: int = 400):
        super().__init__()
        check_counts(latent_dim=latent_dim, hidden=hidden)
        check_counts(0, num_classes=num_classes)
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.f = nn.Sequential(
            nn.Linear(latent_dim + num_classes, hidden), nn.ReLU(), nn.Linear(hidden, 28 * 28)
        )

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Return the logits, `(*, 1, 28, 28)`; InputError for wrong latents or labels."""
        check_latents(z, self.latent_dim, next(self.parameters()))
        return self.f(concat_one_hot(z, self.num_classes, *labels)).unflatten(-1, (1, 28, 28))
