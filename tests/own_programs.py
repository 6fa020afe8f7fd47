"""Programs as users of Pyro write them, with latents of other names than z."""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import nn

W = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]])
NOISE = 0.5
X = torch.tensor([[0.3, -1.0, 0.5], [1.2, 0.1, -0.4]])  # images of `linear`
PLANE = torch.tensor([[0.4, -0.2], [-1.0, 0.6]])  # images of `deep`


class PyroStyle(nn.Module):
    """Pyro's own style: model and guide in one module, flattened pixels, a latent "latent"."""

    def __init__(self, d=3):
        super().__init__()
        self.d = d
        self.decoder = nn.Sequential(
            nn.Linear(d, 20), nn.Dropout(0.5), nn.ReLU(), nn.Linear(20, 784)
        )
        self.encoder = nn.Sequential(
            nn.Linear(784, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 2 * d)
        )

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            prior = dist.Normal(x.new_zeros(x.shape[0], self.d), 1.0).to_event(1)
            z = pyro.sample("latent", prior)
            pixels = dist.Bernoulli(logits=self.decoder(z), validate_args=False).to_event(1)
            pyro.sample("obs", pixels, obs=x.reshape(-1, 784))

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        loc, log_scale = self.encoder(x.reshape(-1, 784)).chunk(2, -1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("latent", dist.Normal(loc, log_scale.exp()).to_event(1))


def linear(x):
    """The linear-Gaussian model: latent "code" in the plane, x = code W + noise."""
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("code", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("seen", dist.Normal(z @ W, NOISE).to_event(1), obs=x)


def linear_posterior(x):
    """Return mean and covariance of p(code | x)."""
    covariance = torch.linalg.inv(torch.eye(2) + W @ W.T / NOISE**2)
    return x @ W.T / NOISE**2 @ covariance, covariance


def linear_guide(x):
    """Its posterior, with independent dimensions that are too wide."""
    mean, covariance = linear_posterior(x)
    with pyro.plate("data", x.shape[0]):
        pyro.sample("code", dist.Normal(mean, 1.3 * covariance.diagonal().sqrt()).to_event(1))


def deep(x):
    """Two latents: top ~ N(0, 1), middle ~ N(top, 1) in the plane, x ~ N(middle, 0.5^2)."""
    with pyro.plate("data", x.shape[0]):
        top = pyro.sample("top", dist.Normal(0.0, 1.0))
        middle = pyro.sample(
            "middle", dist.Normal(top[..., None].expand(*top.shape, 2), 1.0).to_event(1)
        )
        pyro.sample("seen", dist.Normal(middle, NOISE).to_event(1), obs=x)


def deep_guide(x):
    """middle ~ N(x, 0.6^2), top ~ N(mean of middle, 0.8^2)."""
    with pyro.plate("data", x.shape[0]):
        middle = pyro.sample("middle", dist.Normal(x, 0.6).to_event(1))
        pyro.sample("top", dist.Normal(middle.mean(-1), 0.8))


def auxiliary_guide(x):
    """code = 2 u + x W^T, u ~ N(0, I): normal with deviation 2, by a change of variables."""
    with pyro.plate("data", x.shape[0]):
        noise = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        u = pyro.sample("u", noise, infer={"is_auxiliary": True})
        log_density = noise.log_prob(u) - 2 * math.log(2)
        point = dist.Delta(2 * u + x @ W.T, log_density=log_density, event_dim=1)
        pyro.sample("code", point)
