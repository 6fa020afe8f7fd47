"""Variational autoencoders as users of Pyro write them: nothing of this package is in them."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn


class PyroStyle(nn.Module):
    """One module with `model` and `guide` as methods, as in Pyro's tutorial.

    Dropout and batch norm, which are of the training, are in it besides.
    """

    def __init__(self, latent_dim=3, hidden=40, pixels=784):
        super().__init__()
        self.latent_dim = latent_dim
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.Dropout(0.1), nn.Softplus(),
            nn.Linear(hidden, pixels), nn.Sigmoid(),
        )  # fmt: skip
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, hidden), nn.BatchNorm1d(hidden), nn.Softplus(),
            nn.Linear(hidden, 2 * latent_dim),
        )  # fmt: skip

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            loc, scale = x.new_zeros(x.shape[0], self.latent_dim), x.new_ones(self.latent_dim)
            z = pyro.sample("latent", dist.Normal(loc, scale).to_event(1))
            image = self.decoder(z)
            pixels = dist.Bernoulli(image, validate_args=False).to_event(1)
            pyro.sample("obs", pixels, obs=x.reshape(-1, 784))
            return image

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("latent", dist.Normal(loc, log_scale.exp()).to_event(1))


def joined(*vectors):
    """Join vectors, those too that Pyro has drawn often or lists all values of."""
    batch = torch.broadcast_shapes(*(v.shape[:-1] for v in vectors))
    return torch.cat([v.expand(*batch, v.shape[-1]) for v in vectors], -1)


class HalfLabelled(nn.Module):
    """Kingma et al.'s M2: a one-hot label y, observed for some images and latent for others."""

    def __init__(self, latent_dim=2, classes=3, pixels=6, hidden=30):
        super().__init__()
        self.latent_dim, self.classes = latent_dim, classes
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim + classes, hidden), nn.Tanh(), nn.Linear(hidden, pixels)
        )
        self.classifier = nn.Sequential(nn.Linear(pixels, hidden), nn.Tanh())
        self.classifier.append(nn.Linear(hidden, classes))
        self.encoder = nn.Sequential(nn.Linear(pixels + classes, hidden), nn.Tanh())
        self.encoder.append(nn.Linear(hidden, 2 * latent_dim))

    def model(self, x, y=None):
        pyro.module("half_labelled", self)
        with pyro.plate("data"):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), self.latent_dim), 1).to_event(1))
            uniform = x.new_ones(len(x), self.classes) / self.classes
            y = pyro.sample("y", dist.OneHotCategorical(uniform), obs=y)
            loc = self.decoder(joined(z, y))
            pyro.sample("x", dist.Normal(loc, 0.3).to_event(1), obs=x)

    def guide(self, x, y=None):
        with pyro.plate("data"):
            if y is None:
                logits = self.classifier(x)
                y = pyro.sample("y", dist.OneHotCategorical(logits=logits))
            loc, tau = self.encoder(joined(x, y)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, (tau / 2).exp()).to_event(1))


def clusters(images, seed=0, pixels=6):
    """Points around a line for each of three labels: images `(B, 6)` and one-hot labels."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (images,), generator=rng)
    centre = 1.5 * torch.eye(3, pixels)[y]
    along = torch.randn(images, 1, generator=rng) * torch.ones(pixels) / 3
    noise = 0.3 * torch.randn(images, pixels, generator=rng)
    return centre + along + noise, torch.eye(3)[y]
