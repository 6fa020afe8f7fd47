"""Autoregressive flows as guides."""

import pyro.distributions as dist
import torch
from pyro.distributions import transforms as T
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn

from pyro_vae.errors import InputError, check_counts, checked
from pyro_vae.guides.amortised import Amortised
from pyro_vae.models import Model


class Flow(Amortised):
    """z = loc + scale t(e), e ~ N(0, I), t autoregressive maps that depend on the image.

    The maps are Pyro's conditional transforms; each sees a context of the image's numbers, and the
    coordinates in the reverse of the order before it. A subclass makes one of them in `layer`.
    """

    @checked
    def __init__(self, model: Model, precision: str = "auto", layers: int = 2, context: int = 32):
        self.d = model.decoder.latent_dim
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
        """One map of R^d, given `context` numbers; coordinate order[i] depends on those before."""
        raise NotImplementedError

    def distribution(self, params: Tensor) -> dist.TorchDistribution:
        """From loc, tau, and the context that the maps see."""
        loc, log_var, context = params.split([self.d, self.d, params.shape[-1] - 2 * self.d], -1)
        maps = [layer.condition(context) for layer in self.layers]
        # with a cache, or the maps before it would be inverted to score their own samples
        maps.append(T.AffineTransform(loc, torch.exp(log_var / 2), event_dim=1, cache_size=1))
        noise = dist.Normal(torch.zeros_like(loc), 1).to_event(1)
        return dist.TransformedDistribution(noise, maps)


class InverseAutoregressive(Flow):
    """A flow of affine maps: each coordinate is shifted and scaled by those before it.

    Fast to sample; scoring any other value takes d passes (Kingma et al. 2016, Improving
    variational inference with inverse autoregressive flow).
    """

    def layer(self, context: int, order: Tensor) -> dist.ConditionalTransformModule:
        """Shifts and scales from a masked network of 64 hidden units."""
        network = ConditionalAutoRegressiveNN(self.d, context, [64], permutation=order)
        return T.ConditionalAffineAutoregressive(network)


class Spline(Flow):
    """A flow of monotone rational splines: each coordinate by a curve of its own.

    Identity beyond 5 standard deviations (Dolatabadi, Erfani, Leckie 2020, Invertible generative
    modeling using linear rational splines).
    """

    def layer(self, context: int, order: Tensor) -> dist.ConditionalTransformModule:
        """Curves of 8 pieces each from a masked network of 64 hidden units."""
        bins = 8
        network = ConditionalAutoRegressiveNN(
            self.d, context, [64], param_dims=[bins, bins, bins - 1, bins], permutation=order
        )
        return T.ConditionalSplineAutoregressive(self.d, network, count_bins=bins, bound=5.0)
