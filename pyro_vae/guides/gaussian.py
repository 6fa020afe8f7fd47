"""Gaussian guides, with and without correlations."""

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vae.errors import checked
from pyro_vae.guides.amortised import Amortised
from pyro_vae.models import Model


class MeanField(Amortised):
    """The appendix's guide: z ~ N(loc, diag(scale^2)), the coordinates independent.

    >>> import torch
    >>> from pyro_vae import Decoder, MeanField, Model
    >>> guide = MeanField(Model(Decoder(latent_dim=4)))
    >>> guide.q(torch.zeros(3, 1, 28, 28)).sample().shape
    torch.Size([3, 4])
    """

    @checked
    def __init__(self, model: Model, precision: str = "auto"):
        super().__init__(model, 2 * model.latent_dim, precision)

    def distribution(self, params: Tensor) -> dist.TorchDistribution:
        """Return N(loc, diag(scale^2)) from loc and log_var = 2 log scale, `(B, d)` each."""
        loc, log_var = params.chunk(2, -1)
        return dist.Normal(loc, torch.exp(log_var / 2)).to_event(1)


class FullRank(Amortised):
    """z ~ N(loc, L L'), L lower triangular: the coordinates may be correlated.

    >>> import torch
    >>> from pyro_vae import FullRank, Vae
    >>> guide = FullRank(Vae.build(2, architecture="dense").model)
    >>> guide.q(torch.zeros(3, 1, 28, 28)).covariance_matrix.shape
    torch.Size([3, 2, 2])
    """

    @checked
    def __init__(self, model: Model, precision: str = "auto"):
        self.d = model.latent_dim
        below = self.d * (self.d - 1) // 2
        num_params = 2 * self.d + below
        super().__init__(model, num_params, precision)
        for w in self.encoder.parameters():  # start near uncorrelated coordinates
            if w.shape[:1] == (num_params,):  # a weight or bias of the last layer
                w.data[2 * self.d :] *= 0.1

    def distribution(self, params: Tensor) -> dist.TorchDistribution:
        """Return N(loc, L L'), L = diag(scale) U, from loc, log_var and U below its diagonal.

        scale = exp(log_var / 2), `(B, d)`. U, `(B, d, d)`, has a diagonal of ones; below it lie
        d (d - 1) / 2 parameters, row by row.
        """
        loc, log_var, below = params.split([self.d, self.d, params.shape[-1] - 2 * self.d], -1)
        scale = torch.exp(log_var / 2)
        row, column = torch.tril_indices(self.d, self.d, -1, device=params.device).unbind()
        unit = torch.eye(self.d, dtype=params.dtype, device=params.device)
        unit = unit.expand(*params.shape[:-1], -1, -1).clone()
        unit[..., row, column] = below
        return dist.MultivariateNormal(loc, scale_tril=scale[..., None] * unit)
