"""Problems whose log p(x) and p(z | x) are known exactly, to hold an estimator against.

>>> from pyro_vae import LinearGaussian, log_likelihood
>>> problem = LinearGaussian(latent_dim=2, data_dim=5)
>>> x = problem.data(3)
>>> exact = problem.log_likelihood(x).numpy()
>>> estimate = log_likelihood(problem.model, problem.wide_guide, x, num_samples=1000)
>>> bool(abs(estimate.value - exact).max() < 0.1)
True
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vae.errors import check_counts, check_number, check_seed, checked


class LinearGaussian:
    """z ~ N(0, I_d), x | z ~ N(W z, s^2 I_D): both p(x) and p(z | x) are Gaussian.

        p(x)     = N(0, W W' + s^2 I_D)
        p(z | x) = N(S W' x / s^2, S),    S = (I_d + W' W / s^2)^-1

    An image is a vector of D numbers, float64. Methods take images `x`, shape `(B, D)`; the model
    and the guides are Pyro programs with the latent site "z", event shape `(d,)`, in the plate
    "data" over the B images.

    >>> from pyro_vae import LinearGaussian, log_likelihood
    >>> problem = LinearGaussian()
    >>> x = problem.data(3)
    >>> found = log_likelihood(problem.model, problem.exact_guide, x, num_samples=10)
    >>> bool(abs(found.value - problem.log_likelihood(x).numpy()).max() < 1e-9)
    True

    Args:
        latent_dim: d.
        data_dim: D.
        noise: s, the standard deviation of x around W z.
        seed: of W, `(D, d)`, whose entries are drawn from N(0, 1).
    """

    @checked
    def __init__(
        self, latent_dim: int = 2, data_dim: int = 5, noise: float = 0.7, seed: int = 0
    ) -> None:
        check_counts(latent_dim=latent_dim, data_dim=data_dim)
        check_number("noise", noise, 1e-6, 1e6)
        check_seed(seed)
        rng = torch.Generator().manual_seed(seed)
        self.w = torch.randn(data_dim, latent_dim, generator=rng, dtype=torch.float64, device="cpu")
        self.noise, self.latent_dim, self.data_dim = noise, latent_dim, data_dim

    def model(self, x: Tensor) -> None:
        """Sample "z" and observe "x" of each image."""
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self._prior())
            pyro.sample("x", dist.Normal(z @ self.w.T, self.noise).to_event(1), obs=x)

    def data(self, images: int, seed: int = 1) -> Tensor:
        """Draw images from the model, `(images, D)`."""
        rng = torch.Generator().manual_seed(seed)
        z = torch.randn(images, self.latent_dim, generator=rng, dtype=torch.float64, device="cpu")
        e = torch.randn(images, self.data_dim, generator=rng, dtype=torch.float64, device="cpu")
        return z @ self.w.T + self.noise * e

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return the exact log p(x), nats per image, `(B,)`."""
        covariance = self.w @ self.w.T + self.noise**2 * _identity(self.w.mT)
        zero = self.w.new_zeros(self.data_dim)
        return torch.distributions.MultivariateNormal(zero, covariance).log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of p(z | x), `(B, d)`, and its covariance S, `(d, d)`."""
        precision = _identity(self.w) + self.w.T @ self.w / self.noise**2
        covariance = torch.linalg.inv(precision)
        return x @ self.w @ covariance / self.noise**2, covariance

    def elbo(self, x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """Return the exact ELBO, nats per image, of q = N(loc, diag(scale^2)), `(B, d)` each.

        E_q log p(x | z) - KL(q || p(z)),
        E_q log p(x | z) = log N(x; W loc, s^2 I) - sum_ij W_ij^2 scale_j^2 / (2 s^2)
        """
        expected = torch.distributions.Normal(loc @ self.w.T, self.noise).log_prob(x).sum(1)
        spread = (self.w**2 @ (scale**2).T).sum(0) / (2 * self.noise**2)
        kl = 0.5 * (loc**2 + scale**2 - 1).sum(1) - scale.log().sum(1)
        return expected - spread - kl

    def exact_guide(self, x: Tensor) -> None:
        """Sample "z" from p(z | x): every importance weight is p(x)."""
        loc, covariance = self.posterior(x)
        self._sample(x, dist.MultivariateNormal(loc, covariance))

    def wide_guide(self, x: Tensor) -> None:
        """Sample "z" around the right mean, 1.3 times too wide: weights of finite variance."""
        loc, covariance = self.posterior(x)
        self._sample(x, dist.Normal(loc, 1.3 * covariance.diagonal().sqrt()).to_event(1))

    def shifted_guide(self, x: Tensor) -> None:
        """Sample "z" around a mean that is 0.2 off in each coordinate, twice too wide."""
        loc, covariance = self.posterior(x)
        self._sample(x, dist.Normal(loc + 0.2, 2 * covariance.diagonal().sqrt()).to_event(1))

    def structured_guide(self, x: Tensor) -> None:
        """Sample "z" from a multivariate Student-t with 5 degrees of freedom around the mean."""
        loc, covariance = self.posterior(x)
        self._sample(x, dist.MultivariateStudentT(5.0, loc, torch.linalg.cholesky(covariance)))

    def prior_guide(self, x: Tensor) -> None:
        """Sample "z" from the prior, ignoring the image."""
        self._sample(x, self._prior())

    def _prior(self) -> dist.TorchDistribution:
        return dist.Normal(self.w.new_zeros(self.latent_dim), 1).to_event(1)

    def _sample(self, x: Tensor, q: dist.TorchDistribution) -> None:
        """Sample "z" from q, batch shape `(B,)` or none, in the plate over the images."""
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", q)


def _identity(w: Tensor) -> Tensor:
    """Return the identity matrix of as many rows as `w` has columns, of its dtype and device."""
    return torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
