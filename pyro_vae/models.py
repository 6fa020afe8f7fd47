"""Autoencoders as Pyro models: p(z) p(x | z), or p(z | y) p(x | z, y) where they take labels."""

import math
from collections.abc import Callable
from contextlib import suppress

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.util import ignore_jit_warnings
from torch import Tensor, nn

from pyro_vae.data.images import check_grey_levels, check_image_rows
from pyro_vae.errors import InputError, checked, describe
from pyro_vae.networks.precision import softplus
from pyro_vae.priors import StandardPrior
from pyro_vae.programs import evaluating, labels_of
from pyro_vae.seeds import seeded


class GreyBernoulli(dist.Bernoulli):
    """A Bernoulli that also scores grey pixels, as the appendix does.

    A pixel x in [0, 1] with probability p scores x log p + (1 - x) log(1 - p). For grey pixels this
    is a surrogate, not a density over [0, 1]; it is at most minus the binary entropy of x. A pixel
    outside [0, 1], or NaN, is an error. Samples are 0 or 1.

    >>> import torch
    >>> from pyro_vae import GreyBernoulli
    >>> GreyBernoulli(logits=torch.tensor(0.0)).log_prob(torch.tensor(0.3))  # log 1/2
    tensor(-0.6931)
    """

    support = constraints.unit_interval

    def log_prob(self, value: Tensor) -> Tensor:
        """Return each pixel's score in nats, as x l - log(1 + e^l) at logit l, which is faster."""
        if self._validate_args:
            self._validate_sample(value)
        return value * self.logits - softplus(self.logits)


class ContinuousBernoulli(dist.ContinuousBernoulli):
    """The continuous Bernoulli, a density over grey values x in [0, 1], exact at any logit l.

        log p(x) = l x - log(1 + e^l) + log C,    C = l / tanh(l / 2)

    Loaiza-Ganem, Cunningham (2019), The continuous Bernoulli, eq. 5 and 6, with l for logit lambda.
    torch computes C from a clamped probability. It stops growing beyond |l| = 16, so the log
    density of an image of saturated pixels is tens of nats too low.

    >>> import torch
    >>> from pyro_vae import ContinuousBernoulli
    >>> ContinuousBernoulli(logits=torch.tensor(0.0)).log_prob(torch.tensor(0.3))  # uniform
    tensor(0.)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p of each grey value from 0 to 1, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        logits, value = torch.broadcast_tensors(self.logits, value)
        near = logits.abs() < 0.1  # there C = 2 (1 + l^2 / 12 - l^4 / 720 + ...)
        far = torch.where(near, 1.0, logits)
        square = logits.square()
        log_c = torch.where(
            near,
            math.log(2) + torch.log1p(square / 12 - square.square() / 720),
            torch.log(far / torch.tanh(far / 2)),
        )
        return logits * value - softplus(logits) + log_c


class Model(nn.Module):
    """z_b ~ prior, x_b ~ pixel_distribution(logits=decoder(z_b)), independent for each image b.

    Call it as `model(x)`, or as `model(x, y)` where the decoder takes labels. One plate "data" over
    the B images of `x`, `(B, ...)`, holds two sites: the latent "z", event shape `(d,)`, and the
    observed "x", whose event shape is that of an image. Log probabilities are in nats per image.

    Images have any shape that the decoder makes, such as `(3, 32, 32)`; here it is `(1, 28, 28)`:

    >>> import torch, pyro
    >>> from pyro_vae import Decoder, Model
    >>> model = Model(Decoder(latent_dim=4))
    >>> trace = pyro.poutine.trace(model).get_trace(torch.zeros(3, 1, 28, 28))
    >>> trace.nodes["z"]["value"].shape
    torch.Size([3, 4])

    Args:
        decoder: maps latents `(*, B, d)`, and labels, to logits `(*, B, ...)`. A decoder of your
            own has d as its `latent_dim`. `Amortised` says what else a guide asks of it.
        pixel_distribution: makes the distribution of the pixels from `logits=`. Where its support
            is [0, 1] or {0, 1}, images must have their pixels in [0, 1].
        prior: one of `pyro_vae.priors`; by default N(0, I_d), d = `decoder.latent_dim`.
    """

    @checked
    def __init__(
        self,
        decoder: nn.Module,
        pixel_distribution: Callable[..., dist.TorchDistribution] = GreyBernoulli,
        prior: nn.Module | None = None,
    ):
        super().__init__()
        if prior is None and not hasattr(decoder, "latent_dim"):
            raise InputError("decoder must have a latent_dim, for its prior: or give a prior too")
        self.decoder = decoder
        self.pixel_distribution = pixel_distribution
        self.prior = prior or StandardPrior(decoder.latent_dim)

    def forward(self, x: Tensor, *labels: Tensor) -> None:
        """Sample "z" and observe "x" of each image, in the plate "data"."""
        check_image_rows(x)
        prior = self.prior(x, *labels)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", prior)
            logits = self.decoder(z, *labels)
            self._check_logits(logits, z.shape[: z.dim() - prior.event_dim], x)
            pixels = self.pixel_distribution(logits=logits)
            if _on_unit_interval(pixels):
                check_grey_levels(x)
            pyro.sample("x", pixels.to_event(x.dim() - 1), obs=x)

    @property
    def latent_dim(self) -> int:
        """d, by the decoder, or by the prior where the decoder has none."""
        for part in (self.decoder, self.prior):
            if hasattr(part, "latent_dim"):
                return part.latent_dim
        raise InputError("decoder must have a latent_dim: the number d of its latents")

    @property
    def takes_labels(self) -> bool | None:
        """Whether it takes labels y, as the decoder does; None where that can't be told."""
        classes = getattr(self.decoder, "num_classes", None)
        if classes is None:
            most = labels_of(self.decoder).most
            return most > 0 if most < math.inf else None
        return classes > 0

    @property
    def image_shape(self) -> torch.Size | None:
        """The shape of an image, as the decoder makes it; None where that can't be told."""
        weight = next(self.parameters(), torch.empty(0))
        labels = [weight.new_zeros(1, dtype=torch.int64)] if self.takes_labels else []
        with suppress(Exception), torch.no_grad(), evaluating(self), seeded(0, weight):
            return self.decoder(weight.new_zeros(1, self.latent_dim), *labels).shape[1:]
        return None

    @property
    def on_unit_interval(self) -> bool:
        """Whether the pixels are in [0, 1], or 0 and 1."""
        weight = next(self.parameters(), torch.empty(0))
        with suppress(Exception):  # it may ask for more than one pixel: `forward` asks again
            return _on_unit_interval(self.pixel_distribution(logits=weight.new_zeros(1)))
        return False

    @ignore_jit_warnings()
    def _check_logits(self, logits: Tensor, batch: torch.Size, x: Tensor) -> None:
        """Raise InputError unless `logits` are those of images `x`: Pyro would broadcast them."""
        wanted = (*batch, *x.shape[1:])
        if not isinstance(logits, Tensor) or logits.shape != wanted:
            raise InputError(
                f"decoder {type(self.decoder).__name__} must give logits {tuple(wanted)} for "
                f"images {tuple(x.shape)}, not {describe(logits)}"
            )


def _on_unit_interval(pixels: dist.TorchDistribution) -> bool:
    """Return whether the distribution is one of values in [0, 1], or of 0 and 1."""
    try:
        return pixels.support in (constraints.unit_interval, constraints.boolean)
    except NotImplementedError:  # a distribution of the user's own that doesn't say
        return False
