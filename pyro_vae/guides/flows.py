"""Autoregressive flows as guides."""

import pyro.distributions as dist
import torch
from pyro.distributions import transforms as T
from torch import Tensor, nn

from pyro_vae.errors import InputError, check_counts, checked
from pyro_vae.guides.amortised import Amortised
from pyro_vae.models import Model
from pyro_vae.networks.autoregressive import autoregressive


class Flow(Amortised):
    """z = loc + scale t(e), e ~ N(0, I_d), t a chain of autoregressive maps.

    The maps are Pyro's conditional transforms: each depends on the image through `context` of the
    encoder's outputs, and takes the coordinates in the reverse order of the map before it. A
    subclass makes one map in `layer`.
    """

    @checked
    def __init__(self, model: Model, precision: str = "auto", layers: int = 2, context: int = 32):
        self.d = model.latent_dim
        if self.d < 2:
            raise InputError(
                "an autoregressive flow needs latent_dim >= 2: use MeanField or Mixture"
            )
        check_counts(layers=layers, context=context)
        super().__init__(model, 2 * self.d + context, precision)
        order = torch.arange(self.d)
        # a module list, or the maps' parameters would be lost
        self.layers = nn.ModuleList(
            self.layer(context, order if i % 2 == 0 else order.flip(0)) for i in range(layers)
        )
        for layer in self.layers:  # start near maps that are the same for every image
            for w in layer.nn.layers[-1].parameters():
                w.data.mul_(0.1)

    def layer(self, context: int, order: Tensor) -> dist.ConditionalTransformModule:
        """Make one map of R^d given `context` inputs; coordinate order[i] sees those before it."""
        raise NotImplementedError

    def distribution(self, params: Tensor) -> dist.TorchDistribution:
        """Return the flow from loc and log_var = 2 log scale, `(B, d)` each, and the context."""
        loc, log_var, context = params.split([self.d, self.d, params.shape[-1] - 2 * self.d], -1)
        maps = [layer.condition(context) for layer in self.layers]
        # with a cache, or the maps before it would be inverted to score their own samples
        maps.append(T.AffineTransform(loc, torch.exp(log_var / 2), event_dim=1, cache_size=1))
        noise = dist.Normal(torch.zeros_like(loc), 1).to_event(1)
        return dist.TransformedDistribution(noise, maps)


class InverseAutoregressive(Flow):
    """A flow of affine maps: each coordinate is shifted and scaled by those before it.

    Fast to sample; scoring a value that it did not draw takes d passes. Kingma et al. (2016),
    Improving variational inference with inverse autoregressive flow.

    >>> import torch
    >>> from pyro_vae import InverseAutoregressive, Vae
    >>> guide = InverseAutoregressive(Vae.build(2, architecture="dense").model)
    >>> guide.q(torch.zeros(5, 1, 28, 28)).batch_shape
    torch.Size([5])
    """

    def layer(self, context: int, order: Tensor) -> dist.ConditionalTransformModule:
        """Make the shifts and scales from a masked network of 64 hidden units."""
        network = autoregressive(self.d, context, 64, order)
        return T.ConditionalAffineAutoregressive(network)


class Spline(Flow):
    """A flow of monotone rational splines: each coordinate goes through a curve of its own.

    The curves are the identity outside [-5, 5]. Dolatabadi, Erfani, Leckie (2020), Invertible
    generative modeling using linear rational splines.

    >>> import torch
    >>> from pyro_vae import Spline, Vae
    >>> guide = Spline(Vae.build(2, architecture="dense").model)
    >>> guide.q(torch.zeros(5, 1, 28, 28)).batch_shape
    torch.Size([5])
    """

    def layer(self, context: int, order: Tensor) -> dist.ConditionalTransformModule:
        """Make curves of 8 pieces each from a masked network of 64 hidden units."""
        bins = 8
        network = autoregressive(self.d, context, 64, order, (bins, bins, bins - 1, bins))
        return T.ConditionalSplineAutoregressive(self.d, network, count_bins=bins, bound=5.0)
