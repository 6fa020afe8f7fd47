"""A mixture of Gaussians as a guide."""

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vae.errors import check_counts, checked
from pyro_vae.guides.amortised import Amortised, refuse_jit
from pyro_vae.models import Model


class Mixture(Amortised):
    """A mixture of `components` Gaussians with diagonal covariances: several modes, or a bend.

    Its samples carry pathwise gradients (Jankowiak, Karaletsos 2019, Pathwise derivatives for
    multivariate distributions).

    >>> import torch
    >>> from pyro_vae import Mixture, Vae
    >>> guide = Mixture(Vae.build(2, architecture="dense").model, components=3)
    >>> guide.q(torch.zeros(5, 1, 28, 28)).batch_shape
    torch.Size([5])
    """

    @checked
    def __init__(self, model: Model, precision: str = "auto", components: int = 4):
        check_counts(components=components)
        self.d, self.components = model.latent_dim, components
        super().__init__(model, components * (2 * self.d + 1), precision)

    def distribution(self, params: Tensor) -> dist.TorchDistribution:
        """Return the mixture, from C logits of the weights, then loc and log_var of each component.

        The logits have shape `(B, C)`; loc and log_var = 2 log scale, `(B, C, d)` each.
        """
        refuse_jit(self)  # which knows nothing of Pyro's own gradients of these samples
        logits, rest = params.split([self.components, 2 * self.d * self.components], -1)
        loc, log_var = rest.unflatten(-1, (self.components, 2 * self.d)).chunk(2, -1)
        return dist.MixtureOfDiagNormals(loc, torch.exp(log_var / 2), logits)
