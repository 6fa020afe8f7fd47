"""PyTorch's example autoencoder: fully connected."""

import torch
from torch import Tensor, nn

from pyro_vae.errors import check_counts, checked
from pyro_vae.networks.checks import check_latent_dim, check_latents, check_pixels
from pyro_vae.networks.labels import concat_one_hot
from pyro_vae.networks.precision import resolve_precision


class DenseEncoder(nn.Module):
    """As `Encoder`, but fully connected: one hidden layer, as in PyTorch's example autoencoder."""

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
        """The numbers of each image, `(*, num_params)`; InputError for wrong images or labels."""
        check_pixels(x, self.g[0].weight)
        pixels = concat_one_hot(x.flatten(-3), self.num_classes, *labels)
        rounded = self.precision == "bfloat16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=rounded):
            hidden = self.g[:2](pixels)
        return self.g[2](hidden.float() if rounded else hidden)


class DenseDecoder(nn.Module):
    """As `Decoder`, but fully connected: PyTorch's example autoencoder at `latent_dim` = 20.

    https://github.com/pytorch/examples/tree/main/vae (784-400-20-400-784, ReLU)
    """

    encoder = DenseEncoder

    @checked
    def __init__(self, latent_dim: int = 20, num_classes: int = 0, hidden: int = 400):
        super().__init__()
        check_counts(hidden=hidden)
        check_counts(0, num_classes=num_classes)
        self.latent_dim, self.num_classes = check_latent_dim(latent_dim), num_classes
        self.f = nn.Sequential(
            nn.Linear(latent_dim + num_classes, hidden), nn.ReLU(), nn.Linear(hidden, 28 * 28)
        )

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """The logits of each latent, `(*, 1, 28, 28)`; InputError for wrong latents or labels."""
        check_latents(z, self.latent_dim, next(self.parameters()))
        return self.f(concat_one_hot(z, self.num_classes, *labels)).unflatten(-1, (1, 28, 28))
