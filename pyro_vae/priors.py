"""What is drawn before the decoder: p(z), or p(z | y) where the model takes labels.

A prior is the law of z = T_y(e) for a style e ~ N(0, I_d) that knows nothing of the label. Whatever
the bijection T_y, the generator is X = f(e, y), f(e, y) = decoder(T_y(e), y).

Why more than N(0, I): let q(z | y) be the mean of q(z | x, y) over the images of a label. With
decoder and guide as they are, the mean ELBO is lower by KL(q(z | y) || p(z | y)) than it would be
with q(z | y) as the prior. If p is N(0, I) for every label, training leaves some nats of this: the
z of real images then lie in another region for each label, so that z says which digit it is, and a
fresh draw of N(0, I) lies outside of most regions, and f makes no digit of it. A learned T_y
carries N(0, I) onto the region of its label.

References:
    Hoffman, Johnson (2016), ELBO surgery (the mean of the posteriors against the prior).
    Chen et al. (2017), Variational lossy autoencoder, sec. 3.2 (an autoregressive flow as prior).
"""

import pyro.distributions as dist
import torch
from pyro.distributions import transforms as T
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn
from torch.nn import functional

from pyro_vae.errors import check_counts, checked
from pyro_vae.networks.checks import check_labels


class StandardPrior(nn.Module):
    """z ~ N(0, I_d), whatever the label: T_y is the identity."""

    @checked
    def __init__(self, latent_dim: int, num_classes: int = 0):
        super().__init__()
        check_counts(latent_dim=latent_dim)
        check_counts(0, num_classes=num_classes)
        self.latent_dim = latent_dim

    def forward(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """The prior of the latents of images `x`, `(B, 1, 28, 28)`, with labels `(B,)`."""
        return dist.Normal(x.new_zeros(len(x), self.latent_dim), 1).to_event(1)

    def latent(self, style: Tensor, *labels: Tensor) -> Tensor:
        """z = T_y(e), both `(*, B, d)`."""
        return style

    def style(self, latent: Tensor, *labels: Tensor) -> Tensor:
        """e = T_y^-1(z), both `(*, B, d)`."""
        return latent


class LearnedPrior(nn.Module):
    """z = T_y(e), e ~ N(0, I_d): a shift and scale of each label, after autoregressive maps.

    The maps shift and scale each coordinate by what is before it, and by the label. A density
    takes one pass through them, a draw d. Untrained, T_y is the identity. Without classes there is
    one T for all images.
    """

    @checked
    def __init__(self, latent_dim: int, num_classes: int = 0, layers: int = 6, hidden: int = 256):
        super().__init__()
        check_counts(latent_dim=latent_dim, hidden=hidden)
        check_counts(0, num_classes=num_classes, layers=layers)
        self.latent_dim, self.num_classes = latent_dim, num_classes
        kinds = max(1, num_classes)
        self.affine = nn.Embedding(kinds, 2 * latent_dim)
        order = torch.arange(latent_dim)
        self.maps = nn.ModuleList(
            T.ConditionalAffineAutoregressive(
                ConditionalAutoRegressiveNN(
                    latent_dim,
                    kinds,
                    [max(hidden, latent_dim)],
                    permutation=order if i % 2 == 0 else order.flip(0),
                )
            )
            for i in range(layers if latent_dim > 1 else 0)
        )
        for last in (self.affine, *(each.nn.layers[-1] for each in self.maps)):
            for w in last.parameters():
                nn.init.zeros_(w)

    def bijection(self, images: int, *labels: Tensor) -> list[T.Transform]:
        """T_y of each of B images, as transforms to be applied in turn."""
        check_labels("this prior", self.num_classes, images, *labels)
        weight = self.affine.weight
        y = labels[0] if labels else torch.zeros(images, dtype=torch.int64, device=weight.device)
        loc, log_scale = self.affine(y).chunk(2, -1)
        context = functional.one_hot(y, len(weight)).to(weight)
        maps = [each.condition(context).inv for each in self.maps]
        return [*maps, T.AffineTransform(loc, log_scale.exp(), event_dim=1)]

    def forward(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """As `StandardPrior.forward`."""
        noise = dist.Normal(x.new_zeros(len(x), self.latent_dim), 1).to_event(1)
        return dist.TransformedDistribution(noise, self.bijection(len(x), *labels))

    def latent(self, style: Tensor, *labels: Tensor) -> Tensor:
        """As `StandardPrior.latent`."""
        for transform in self.bijection(style.shape[-2], *labels):
            style = transform(style)
        return style

    def style(self, latent: Tensor, *labels: Tensor) -> Tensor:
        """As `StandardPrior.style`."""
        for transform in reversed(self.bijection(latent.shape[-2], *labels)):
            latent = transform.inv(latent)
        return latent


PRIORS = {"standard": StandardPrior, "learned": LearnedPrior}
