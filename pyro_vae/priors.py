"""Priors of the latents: p(z), or p(z | y) where the model takes labels.

A prior is the distribution of z = T_y(e), where the style e ~ N(0, I_d) is independent of the label
y and T_y is a bijection. So the generator is X = f(e, y) = decoder(T_y(e), y).

Why learn T_y? Let q(z | y) be the average of q(z | x, y) over the images of a label. For a given
decoder and guide, the mean ELBO is KL(q(z | y) || p(z | y)) lower than it would be with q(z | y) as
the prior. If p is N(0, I) for every label, training leaves some nats of this divergence. The z of
real images then lie in another region for each label, and z tells which digit it is. A fresh draw
from N(0, I) lies outside most regions, and the decoder makes no digit of it. A learned T_y maps
N(0, I) onto the region of its label.

References:
    Hoffman, Johnson (2016), ELBO surgery (the average posterior against the prior).
    Chen et al. (2017), Variational lossy autoencoder, sec. 3.2 (an autoregressive flow as prior).
"""

import pyro.distributions as dist
import torch
from pyro.distributions import transforms as T
from torch import Tensor, nn
from torch.nn import functional

from pyro_vae.errors import check_counts, checked
from pyro_vae.networks.autoregressive import autoregressive
from pyro_vae.networks.checks import check_labels


class StandardPrior(nn.Module):
    """z ~ N(0, I_d) for every label: T_y is the identity.

    >>> import torch
    >>> from pyro_vae import StandardPrior
    >>> StandardPrior(4)(torch.zeros(3, 1, 28, 28)).sample((5,)).shape
    torch.Size([5, 3, 4])
    """

    @checked
    def __init__(self, latent_dim: int, num_classes: int = 0):
        super().__init__()
        check_counts(latent_dim=latent_dim)
        check_counts(0, num_classes=num_classes)
        self.latent_dim = latent_dim

    def forward(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """Return the prior of the latents of B images: batch shape `(B,)`, event shape `(d,)`.

        Of the images `x`, `(B, ...)`, only number, dtype and device count. Labels are `(B,)`.
        """
        return dist.Normal(x.new_zeros(x.shape[0], self.latent_dim), 1).to_event(1)

    def latent(self, style: Tensor, *labels: Tensor) -> Tensor:
        """Return z = T_y(e) of styles e, both `(*, B, d)`."""
        return style

    def style(self, latent: Tensor, *labels: Tensor) -> Tensor:
        """Return the styles e = T_y^-1(z) of latents z, both `(*, B, d)`."""
        return latent


class LearnedPrior(nn.Module):
    """z = T_y(e), e ~ N(0, I_d): autoregressive maps, then a shift and a scale for each label.

    The maps shift and scale each coordinate depending on those before it and on the label. A
    density takes one pass through them, a draw d passes. Untrained, T_y is the identity. With
    `num_classes` = 0 there is one T for all images.

    >>> import torch
    >>> from pyro_vae import LearnedPrior
    >>> prior, y = LearnedPrior(4, num_classes=10), torch.tensor([3, 7])
    >>> style = torch.randn(2, 4)
    >>> torch.allclose(prior.style(prior.latent(style, y), y), style)
    True
    """

    @checked
    def __init__(self, latent_dim: int, num_classes: int = 0, layers: int = 6, hidden: int = 256):
        super().__init__()
        check_counts(latent_dim=latent_dim, hidden=hidden)
        check_counts(0, num_classes=num_classes, layers=layers)
        self.latent_dim, self.num_classes = latent_dim, num_classes
        num_labels = max(1, num_classes)
        self.affine = nn.Embedding(num_labels, 2 * latent_dim)
        order = torch.arange(latent_dim)
        self.maps = nn.ModuleList(
            T.ConditionalAffineAutoregressive(
                autoregressive(
                    latent_dim,
                    num_labels,
                    max(hidden, latent_dim),
                    order if i % 2 == 0 else order.flip(0),
                )
            )
            for i in range(layers if latent_dim > 1 else 0)
        )
        for last in (self.affine, *(each.nn.layers[-1] for each in self.maps)):
            for w in last.parameters():
                nn.init.zeros_(w)

    def bijection(self, images: int, *labels: Tensor) -> list[T.Transform]:
        """Return T_y of each of B images, as transforms to apply in turn."""
        check_labels("this prior", self.num_classes, images, *labels)
        weight = self.affine.weight
        y = labels[0] if labels else torch.zeros(images, dtype=torch.int64, device=weight.device)
        loc, log_scale = self.affine(y).chunk(2, -1)
        context = functional.one_hot(y, self.affine.num_embeddings).to(weight)
        maps = [each.condition(context).inv for each in self.maps]
        return [*maps, T.AffineTransform(loc, log_scale.exp(), event_dim=1)]

    def forward(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """Return the prior of the latents of B images, with T_y as its transforms."""
        noise = dist.Normal(x.new_zeros(x.shape[0], self.latent_dim), 1).to_event(1)
        return dist.TransformedDistribution(noise, self.bijection(x.shape[0], *labels))

    def latent(self, style: Tensor, *labels: Tensor) -> Tensor:
        """Return z = T_y(e) of styles e, both `(*, B, d)`."""
        for transform in self.bijection(style.shape[-2], *labels):
            style = transform(style)
        return style

    def style(self, latent: Tensor, *labels: Tensor) -> Tensor:
        """Return the styles e = T_y^-1(z) of latents z, both `(*, B, d)`."""
        for transform in reversed(self.bijection(latent.shape[-2], *labels)):
            latent = transform.inv(latent)
        return latent


PRIORS = {"standard": StandardPrior, "learned": LearnedPrior}
