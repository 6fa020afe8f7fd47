"""Problems whose log p(x) and p(z | x) are known exactly: what an estimator is held against."""

import pyro
import pyro.distributions as dist
import torch


class LinearGaussian:
    """z ~ N(0, I_d), x | z ~ N(W z, s^2 I_D): p(x) = N(0, W W' + s^2 I), p(z | x) Gaussian too.

    Images are B vectors of D numbers: `x` has shape `(B, D)`.
    """

    def __init__(self, latent_dim=2, data_dim=5, noise=0.7, seed=0):
        rng = torch.Generator().manual_seed(seed)
        self.w = torch.randn(data_dim, latent_dim, generator=rng, dtype=torch.float64)
        self.noise, self.latent_dim, self.data_dim = noise, latent_dim, data_dim

    def model(self, x):
        prior = dist.Normal(torch.zeros(self.latent_dim, dtype=torch.float64), 1).to_event(1)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(z @ self.w.T, self.noise).to_event(1), obs=x)

    def data(self, images, seed=1):
        rng = torch.Generator().manual_seed(seed)
        z = torch.randn(images, self.latent_dim, generator=rng, dtype=torch.float64)
        e = torch.randn(images, self.data_dim, generator=rng, dtype=torch.float64)
        return z @ self.w.T + self.noise * e

    def log_likelihood(self, x):
        covariance = self.w @ self.w.T + self.noise**2 * torch.eye(self.data_dim).double()
        zero = torch.zeros(self.data_dim, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(zero, covariance).log_prob(x)

    def posterior(self, x):
        precision = torch.eye(self.latent_dim).double() + self.w.T @ self.w / self.noise**2
        covariance = torch.linalg.inv(precision)
        return x @ self.w @ covariance / self.noise**2, covariance

    def exact_guide(self, x):
        loc, covariance = self.posterior(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(loc, covariance))

    def wide_guide(self, x):
        """Mean-field at the right mean, 1.3 times too wide: every weight has finite variance."""
        loc, covariance = self.posterior(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 1.3 * covariance.diagonal().sqrt()).to_event(1))

    def shifted_guide(self, x):
        """At the wrong mean, and wide enough for it."""
        loc, covariance = self.posterior(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc + 0.2, 2 * covariance.diagonal().sqrt()).to_event(1))

    def structured_guide(self, x):
        """The same site from a plain function of its own making: a Student-t around the mean."""
        loc, covariance = self.posterior(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateStudentT(5.0, loc, torch.linalg.cholesky(covariance)))

    def prior_guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1).to_event(1))

    def elbo(self, x, loc, scale):
        """The exact ELBO of the guide N(loc, diag(scale^2)), shapes `(B, d)`."""
        expected = torch.distributions.Normal(loc @ self.w.T, self.noise).log_prob(x).sum(1)
        spread = (self.w**2 @ (scale**2).T).sum(0) / (2 * self.noise**2)
        kl = 0.5 * (loc**2 + scale**2 - 1).sum(1) - scale.log().sum(1)
        return expected - spread - kl
