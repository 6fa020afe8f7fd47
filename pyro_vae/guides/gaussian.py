"""Gaussian guides, with and without correlations."""

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vae.errors import checked
from pyro_vae.guides.amortised import Amortised
from pyro_vae.models import Model


class MeanField(Amortised):
    """The appendix's guide: z ~ N(loc, diag(scale^2)), each coordinate on its own."""

    @checked
    def __init__(self, model: Model, precision: str = "auto"):
        super().__init__(model, 2 * model.decoder.latent_dim, precision)

    def distribution(self, params: Tensor) -> dist.TorchDistribution:
        """From loc and tau, `(B, d)` each, where scale = exp(tau / 2)."""
        loc, log_var = params.chunk(2, -1)
        return dist.Normal(loc, torch.exp(log_var / 2)).to_event(1)


class FullRank(Amortised):
    """z ~ N(loc, L L'), L lower triangular: the coordinates may be correlated."""

    @checked
    def __init__(self, model: Model, precision: str = "auto"):
        self.d = model.decoder.latent_dim
        below = self.d * (self.d - 1) // 2
        super().__init__(model, 2 * self.d + below, precision)
        for w in self.encoder.g[-1].parameters():  # start near uncorrelated coordinates
            w.data[2 * self.d :] *= 0.1

    def distribution(self, params: Tensor) -> dist.TorchDistribution:
        """From loc, tau and what of L lies below its diagonal exp(tau / 2), in its units."""
        loc, log_var, below = params.split([self.d, self.d, params.shape[-1] - 2 * self.d], -1)
        scale = torch.exp(log_var / 2)
        row, column = torch.tril_indices(self.d, self.d, -1)
        unit = torch.eye(self.d).to(params).expand(*params.shape[:-1], -1, -1).clone()
        unit[..., row, column] = below
        return dist.MultivariateNormal(loc, scale_tril=scale[..., None] * unit)
