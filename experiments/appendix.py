"""The networks of the coursework's appendix: the reference of the tests and the benchmark."""

import torch
from torch import nn


class BernoulliImageGenerator(nn.Module):
    """Maps latents `(B, d)` to mean images `(B, 1, 28, 28)`; scores images given latents."""

    def __init__(self, d=4):
        super().__init__()
        self.d = d
        self.f = nn.Sequential(
            nn.Linear(d, 128),
            nn.LeakyReLU(),
            nn.Linear(128, 1728),
            nn.LeakyReLU(),
            nn.Unflatten(1, (12, 12, 12)),
            nn.Conv2d(12, 36, 3, 1),
            nn.LeakyReLU(),
            nn.Flatten(1),
            nn.Unflatten(1, (4, 30, 30)),
            nn.Conv2d(4, 4, 3, 1),
            nn.LeakyReLU(),
            nn.Conv2d(4, 1, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, z):
        return self.f(z)

    def loglik(self, x, z):
        xr = self(z)
        return (x * torch.log(xr) + (1 - x) * torch.log(1 - xr)).sum((1, 2, 3))


class GaussianEncoder(nn.Module):
    """Maps images to the mean and standard deviation of q(z | x), `(B, d)`; computes the ELBO."""

    def __init__(self, decoder):
        super().__init__()
        self.d = decoder.d
        self.f = decoder
        self.g = nn.Sequential(
            nn.Conv2d(1, 32, 3, 1),
            nn.LeakyReLU(),
            nn.Conv2d(32, 64, 3, 1),
            nn.MaxPool2d(2),
            nn.Flatten(1),
            nn.Linear(9216, 128),
            nn.LeakyReLU(),
            nn.Linear(128, self.d * 2),
        )

    def forward(self, x):
        mu_tau = self.g(x)
        mu, tau = mu_tau[:, : self.d], mu_tau[:, self.d :]
        return mu, torch.exp(tau / 2)

    def loglik_lb(self, x):
        mu, sigma = self(x)
        kl = 0.5 * (mu**2 + sigma**2 - torch.log(sigma**2) - 1).sum(1)
        eps = torch.randn_like(sigma)
        ll = self.f.loglik(x, z=mu + sigma * eps)
        return ll - kl
