"""Encoders as Pyro guides: q(z | x), and q(z | x, y) where the model takes labels.

A guide is any callable with the model's signature that samples the model's latent sites inside a
plate "data" over the images. Nothing that trains it or estimates with it asks for its class.

An *amortised* guide is an encoder, which turns each image into a row of numbers, and a family of
distributions, which makes q(z | x) of them. Most guides here differ in their family alone, and so
may a user's: see `Amortised`. `GUIDES` names those that can be asked for by name; each is made for
a model, whose latent dimension and number of classes it reads.
"""

import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import transforms as T
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn

from pyro_vae.data import check_images
from pyro_vae.errors import InputError, check_counts, check_number, check_rows, checked, kind
from pyro_vae.importance import Program, log_joint, score
from pyro_vae.models import Model


class Amortised(nn.Module):
    """q(z | x) = distribution(encoder(x)), an encoder of the decoder's make and a family.

    A subclass says how many numbers its family needs of an image, and makes a distribution of
    them, with batch shape `(B,)` and event shape `(d,)`.

    Args:
        model: what it is a guide for; its decoder names the encoder that goes with it.
        outputs: numbers an image that the encoder gives.
        precision: of the encoder's convolutions; see `pyro_vae.networks.resolve_precision`.
    """

    @checked
    def __init__(self, model: Model, outputs: int, precision: str = "auto"):
        super().__init__()
        self.encoder = model.decoder.encoder(outputs, precision, model.decoder.classes)

    def distribution(self, numbers: Tensor) -> dist.TorchDistribution:
        """The family's member at `numbers`, shape `(B, outputs)`."""
        raise NotImplementedError

    def q(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """q(z | x) of each image."""
        return self.distribution(self.encoder(x, *labels))

    def forward(self, x: Tensor, *labels: Tensor) -> None:
        """Sample "z" of each image, from q(z | x), in the plate "data"."""
        q = self.q(x, *labels)
        with pyro.plate("data", len(x)):
            pyro.sample("z", q)


class MeanField(Amortised):
    """The appendix's guide: z ~ N(loc, diag(scale^2)), each coordinate on its own."""

    @checked
    def __init__(self, model: Model, precision: str = "auto"):
        super().__init__(model, 2 * model.decoder.latent_dim, precision)

    def distribution(self, numbers: Tensor) -> dist.TorchDistribution:
        """From loc and tau, `(B, d)` each, where scale = exp(tau / 2)."""
        loc, tau = numbers.chunk(2, -1)
        return dist.Normal(loc, torch.exp(tau / 2)).to_event(1)


class FullRank(Amortised):
    """z ~ N(loc, L L'), L lower triangular: the coordinates may be correlated."""

    @checked
    def __init__(self, model: Model, precision: str = "auto"):
        self.d = model.decoder.latent_dim
        below = self.d * (self.d - 1) // 2
        super().__init__(model, 2 * self.d + below, precision)
        for w in self.encoder.g[-1].parameters():  # start near uncorrelated coordinates
            w.data[2 * self.d :] *= 0.1

    def distribution(self, numbers: Tensor) -> dist.TorchDistribution:
        """From loc, tau and what of L lies below its diagonal exp(tau / 2), in its units."""
        loc, tau, below = numbers.split([self.d, self.d, numbers.shape[-1] - 2 * self.d], -1)
        scale = torch.exp(tau / 2)
        row, column = torch.tril_indices(self.d, self.d, -1)
        unit = torch.eye(self.d).to(numbers).expand(*numbers.shape[:-1], -1, -1).clone()
        unit[..., row, column] = below
        return dist.MultivariateNormal(loc, scale_tril=scale[..., None] * unit)


class Mixture(Amortised):
    """A mixture of `components` Gaussians with diagonal covariances: several modes, or a bend.

    Its samples carry pathwise gradients (Jankowiak, Karaletsos 2019, Pathwise derivatives for
    multivariate distributions).
    """

    @checked
    def __init__(self, model: Model, precision: str = "auto", components: int = 4):
        check_counts(components=components)
        self.d, self.components = model.decoder.latent_dim, components
        super().__init__(model, components * (2 * self.d + 1), precision)

    def distribution(self, numbers: Tensor) -> dist.TorchDistribution:
        """From each component's logit of its share, loc and tau."""
        logits, rest = numbers.split([self.components, 2 * self.d * self.components], -1)
        loc, tau = rest.unflatten(-1, (self.components, 2 * self.d)).chunk(2, -1)
        return dist.MixtureOfDiagNormals(loc, torch.exp(tau / 2), logits)


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

    def distribution(self, numbers: Tensor) -> dist.TorchDistribution:
        """From loc, tau, and the context that the maps see."""
        loc, tau, context = numbers.split([self.d, self.d, numbers.shape[-1] - 2 * self.d], -1)
        maps = [layer.condition(context) for layer in self.layers]
        # with a cache, or the maps before it would be inverted to score their own samples
        maps.append(T.AffineTransform(loc, torch.exp(tau / 2), event_dim=1, cache_size=1))
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


class Prior(nn.Module):
    """The model's prior, blind to the image: what a guide is worth is measured from here."""

    @checked
    def __init__(self, model: Model):
        super().__init__()
        self.target = (model,)  # in a tuple: the model's parameters are not the guide's

    def forward(self, x: Tensor, *labels: Tensor) -> None:
        """Sample "z" of each image, from the prior, in the plate "data"."""
        check_images(x)
        prior = self.target[0].prior(x, *labels)
        with pyro.plate("data", len(x)):
            pyro.sample("z", prior)


class SemiAmortised(MeanField):
    """Mean-field, with a few steps of gradient ascent on each image's own ELBO.

    The encoder's numbers are only the start. In training its weights get the gradient at the end
    of the steps, as if these had shifted the numbers by a constant (Kim et al. 2018,
    Semi-amortized variational autoencoders, differentiate through the steps instead).
    """

    @checked
    def __init__(self, model: Model, precision: str = "auto", steps: int = 8):
        check_counts(steps=steps)
        super().__init__(model, precision)
        self.target = (model,)  # in a tuple: the model's parameters are not the guide's
        self.steps = steps

    def q(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """q(z | x) at the end of each image's steps."""
        numbers = self.encoder(x, *labels)
        better = ascend(self.target[0], self, numbers, [x, *labels], self.steps)
        return self.distribution(numbers + (better - numbers).detach())


@checked
def ascend(
    model: Program,
    guide: Amortised,
    numbers: Tensor,
    rows: list[Tensor],
    steps: int,
    draws: int = 4,
    learning_rate: float = 0.05,
) -> Tensor:
    """`numbers`, shape `(B, outputs)`, after steps of Adam up each image's own ELBO.

    The step size falls to zero on a cosine. `rows` are the model's arguments, `[x]` or `[x, y]`.
    """
    check_counts(steps=steps, draws=draws)
    check_number("learning_rate", learning_rate, 1e-9, 1e3)
    check_rows(*rows)
    if numbers.dim() != 2 or len(numbers) != len(rows[0]) or not numbers.is_floating_point():
        raise InputError(
            f"numbers must be floats ({len(rows[0])}, outputs) as rows, not {kind(numbers)}"
        )
    if not numbers.isfinite().all():
        raise InputError("numbers must be finite")

    def elbo(numbers: Tensor) -> Tensor:
        q = guide.distribution(numbers)
        # expanded, as a plate would: Pyro's MixtureOfDiagNormals draws from the wrong image's
        # components where it is asked for a sample shape and has a batch shape
        z = q.expand((draws, len(numbers))).rsample()
        return (score(model, rows, {"z": z}) - q.log_prob(z)).mean(0)

    return _adam(elbo, numbers, steps, learning_rate)


def imitate(guide: Amortised, numbers: Tensor, z: Tensor, steps: int = 200) -> Tensor:
    """The numbers, shape `(B, outputs)`, that make the draws `z`, `(N, B, d)`, most likely.

    Found by Adam from `numbers`, image by image.
    """
    return _adam(lambda n: guide.distribution(n).log_prob(z).mean(0), numbers, steps, 0.1)


def _adam(
    objective: Callable[[Tensor], Tensor], numbers: Tensor, steps: int, learning_rate: float
) -> Tensor:
    """`numbers`, `(B, outputs)`, after steps of Adam up each image's own objective, `(B,)`.

    The step size falls to zero on a cosine. An image whose gradient is not finite, as that of a
    collapsed mixture, stays where it is.
    """
    numbers = numbers.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([numbers], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with torch.enable_grad(), poutine.block():  # what is sampled here is no site of the guide
        for _ in range(steps):
            (gradient,) = torch.autograd.grad(-objective(numbers).sum(), [numbers])
            finite = gradient.isfinite().all(-1, keepdim=True)
            numbers.grad = torch.where(finite, gradient, 0.0)
            optimiser.step()
            schedule.step()
    return numbers.detach()


@torch.no_grad()
def optimal(
    model: Program,
    guide: Amortised,
    rows: list[Tensor],
    z: Tensor,
    steps: int = 300,
    draws: int = 8,
) -> Tensor:
    """The numbers `(B, outputs)` of q*, the member of the family with each image's highest ELBO.

    Found by `ascend` from the encoder's numbers, and from those that imitate the draws `z`,
    `(N, B, d)`, of a guide close to p(z | x), since the encoder may have put an image at a lesser
    mode; the better of both ends is taken. What the family shares among images, such as a flow's
    networks, stays as it is.
    """
    own = guide.encoder(*rows)
    starts = [own, imitate(guide, own, z)]
    ends = torch.stack([ascend(model, guide, start, rows, steps, draws) for start in starts])
    elbos = torch.stack(
        [elbo_samples(model, guide, numbers, rows, 200).mean(0) for numbers in ends]
    )
    return ends[elbos.nan_to_num(-math.inf).argmax(0), torch.arange(len(own))]


@torch.no_grad()
def elbo_samples(
    model: Program, guide: Amortised, numbers: Tensor, rows: list[Tensor], num_samples: int
) -> Tensor:
    """log p(x, z_k) - log q(z_k), `(K, B)`, z_k from the members of the family at `numbers`.

    float64, on the CPU.
    """
    q = guide.distribution(numbers)
    z = q.expand((num_samples, len(numbers))).sample()
    return log_joint(model, rows, {"z": z}) - q.log_prob(z).double().cpu()


# Guides by name: each is called with the model. The refined guide is not among them, since it is
# not trained: `pyro_vae.refined.Refined` makes it of a model and any one of these.
GUIDES: dict[str, type[nn.Module]] = {
    "mean_field": MeanField,
    "full_rank": FullRank,
    "mixture": Mixture,
    "inverse_autoregressive": InverseAutoregressive,
    "spline": Spline,
    "semi_amortised": SemiAmortised,
    "prior": Prior,
}
AMORTISED = {name: kind for name, kind in GUIDES.items() if issubclass(kind, Amortised)}
