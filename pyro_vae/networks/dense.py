"""PyTorch's example autoencoder: fully connected."""

import torch
from torch import Tensor, nn

from pyro_vae.errors import check_counts, checked
from pyro_vae.networks.checks import check_latent_dim, check_latents, check_pixels
from pyro_vae.networks.labels import beside
from pyro_vae.networks.precision import resolve_precision


class DenseEncoder(nn.Module):
    """As `Encoder`, but fully connected: one hidden layer, as in PyTorch's example autoencoder."""

    @checked
    def __init__(
        self, outputs: int, precision: str = "float32", classes: int = 0, hidden: int = 400
    ):
        super().__init__()
        check_counts(outputs=outputs, hidden=hidden)
        check_counts(0, classes=classes)
        self.precision, self.classes = resolve_precision(precision), classes
        self.g = nn.Sequential(
            nn.Linear(28 * 28 + classes, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """The numbers of each image, `(*, outputs)`; InputError for wrong images or labels."""
        check_pixels(x, self.g[0].weight)
        pixels = beside(x.flatten(-3), self.classes, *labels)
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
    def __init__(self, latent_dim: int = 20, classes: int = 0, hidden: int = 400):
        super().__init__()
        check_counts(hidden=hidden)
        check_counts(0, classes=classes)
        self.latent_dim, self.classes = check_latent_dim(latent_dim), classes
        self.f = nn.Sequential(
            nn.Linear(latent_dim + classes, hidden), nn.ReLU(), nn.Linear(hidden, 28 * 28)
        )

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """The logits of each latent, `(*, 1, 28, 28)`; InputError for wrong latents or labels."""
        check_latents(z, self.latent_dim, next(self.parameters()))
        return self.f(beside(z, self.classes, *labels)).unflatten(-1, (1, 28, 28))
