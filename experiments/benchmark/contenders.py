"""What the benchmark times: training and log p(x) by this package, by the appendix, by others.

Each function prepares one contender and returns its work, a function that does one round. It works
on the device of `images`. Weights are given and returned as a state dict of the appendix's
`GaussianEncoder`, which all contenders can load.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from pyro.infer import ELBO, Trace_ELBO
from pyro.infer.importance import vectorized_importance_weights
from torch import Tensor
from torch.distributions import Normal
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from experiments.appendix import BernoulliImageGenerator, GaussianEncoder
from pyro_vae.accuracy import log_likelihood
from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.annealing import annealed_log_likelihood
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.memory import keep_memory
from pyro_vae.models import Model
from pyro_vae.networks.appendix import State, join_appendix, split_appendix
from pyro_vae.networks.precision import resolve_precision
from pyro_vae.training.fit import fit
from pyro_vae.vae import Vae

Work = Callable[[], object]


def appendix(state: State, device: torch.device | str = "cpu") -> GaussianEncoder:
    """Return the appendix's networks with these weights."""
    encoder = GaussianEncoder(BernoulliImageGenerator(state["f.f.0.weight"].shape[1]))
    encoder.load_state_dict(state)
    return encoder.to(device)


def ours(
    state: State, precision: str = "auto", device: torch.device | str = "cpu"
) -> tuple[Model, Amortised]:
    """Return this package's model and guide with these weights."""
    decoder, encoder = split_appendix(state)
    precision = resolve_precision(precision, str(device))
    vae = Vae.build(decoder["f.0.weight"].shape[1], precision=precision)
    model, guide = vae.model, vae.guide
    model.decoder.load_state_dict(decoder)
    guide.encoder.load_state_dict(encoder)
    return model.to(device), guide.to(device)


def fresh_weights(latent_dim: int, seed: int) -> State:
    """Return untrained weights, from which all contenders start."""
    torch.manual_seed(seed)
    vae = Vae.build(latent_dim, precision="float32")
    model, guide = vae.model, vae.guide
    return join_appendix(model.decoder.state_dict(), guide.encoder.state_dict())


# ---------------------------------------------------------------- training: one epoch a round


def plain_training(
    images: Tensor, state: State, keep: bool = False, decay_epochs: int = 0
) -> Callable[[], State]:
    """Train by the appendix's own loop: DataLoader, batches of 100, its bound, Adam, float32.

    With `keep` the allocator keeps freed memory, as in this package's scripts. With `decay_epochs`
    the learning rate falls to zero over that many epochs, along half a cosine, as in `fit`.
    """
    if keep:
        keep_memory()
    encoder = appendix(state, images.device)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(images.cpu()), batch_size=100, shuffle=True)
    scheduler = CosineAnnealingLR(optimiser, decay_epochs * len(loader)) if decay_epochs else None

    def work() -> State:
        for (x,) in loader:
            optimiser.zero_grad()
            (-encoder.loglik_lb(x.to(images.device)).mean()).backward()
            optimiser.step()
            if scheduler:
                scheduler.step()
        return encoder.state_dict()

    return work


def our_training(
    images: Tensor, state: State, precision: str, elbo: Callable[[], ELBO] = Trace_ELBO
) -> Work:
    """Train by `fit`, with Trace_ELBO as in the question scripts, or another bound."""
    keep_memory()
    model, guide = ours(state, precision, images.device)

    def work() -> State:
        fit(model, guide, (images,), epochs=1, elbo=elbo(), progress=False)
        return join_appendix(model.decoder.state_dict(), guide.encoder.state_dict())

    return work


# ---------------------------------------------------------------- log p(x) of all images a round


def plain_likelihood(images: Tensor, state: State, num_samples: int, keep: bool = False) -> Work:
    """Estimate log p(x) as the appendix would: with log(sigmoid), 2,000 latents at a time."""
    if keep:
        keep_memory()
    encoder = appendix(state, images.device)

    @torch.no_grad()
    def work() -> np.ndarray:
        values = []
        for x in images.split(max(1, 2000 // num_samples)):
            loc, scale = encoder(x)
            log_w = []
            for start in range(0, num_samples, 2000):
                count = min(2000, num_samples - start)
                z = loc + scale * torch.randn(count, *loc.shape, device=loc.device)
                xr = encoder.f(z.flatten(0, 1)).unflatten(0, (count, len(x)))
                log_lik = (x * torch.log(xr) + (1 - x) * torch.log(1 - xr)).sum((2, 3, 4))
                log_prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
                log_w.append(log_lik + log_prior - Normal(loc, scale).log_prob(z).sum(-1))
            values.append(torch.logsumexp(torch.cat(log_w), 0) - math.log(num_samples))
        return torch.cat(values).double().cpu().numpy()

    return work


def our_likelihood(images: Tensor, state: State, num_samples: int, keep: bool = True) -> Work:
    """Estimate log p(x) as the scripts do; without `keep`, as a user's own program would."""
    if keep:
        keep_memory()
    model, guide = ours(state, device=images.device)
    return lambda: log_likelihood(model, guide, images, num_samples=num_samples).value


def refined_likelihood(images: Tensor, state: State, num_samples: int) -> Work:
    """Estimate log p(x) by the refined guide; the time includes the fit of its proposals."""
    keep_memory()
    model, guide = ours(state, device=images.device)
    refined = Refined(model, guide)
    return lambda: log_likelihood(model, refined, images, num_samples=num_samples).value


def to_accuracy(
    images: Tensor, state: State, se: float, most: int | None = None, seed: int = 0
) -> Callable[[], Estimate]:
    """Estimate log p(x) to a standard error, of which the refined guide is a part."""
    keep_memory()
    model, guide = ours(state, device=images.device)
    options = {"se": se, "num_samples": most, "seed": seed, "progress": False}
    return lambda: log_likelihood(model, guide, images, **options)


def annealed(images: Tensor, state: State, num_steps: int) -> Callable[[], Estimate]:
    """Estimate log p(x) by 16 chains annealed from the guide to the posterior."""
    keep_memory()
    model, guide = ours(state, device=images.device)
    options = {"num_steps": num_steps, "progress": False}
    return lambda: annealed_log_likelihood(model, guide, images, **options)


def pyro_likelihood(images: Tensor, state: State, num_samples: int) -> Work:
    """Estimate log p(x) by Pyro's own weights, image by image: it gives one weight for a batch."""
    keep_memory()
    model, guide = ours(state, device=images.device)

    @torch.no_grad()
    def work() -> np.ndarray:
        values = []
        for x in images.split(1):
            log_w, _, _ = vectorized_importance_weights(
                model, guide, x, num_samples=num_samples, max_plate_nesting=1
            )
            values.append(torch.logsumexp(log_w, 0) - math.log(num_samples))
        return torch.stack(values).double().cpu().numpy()

    return work


def pythae_likelihood(images: Tensor, state: State, num_samples: int) -> Work:
    """Estimate log p(x) by pythae's get_nll, if it is installed.

    It draws whole batches of samples, so that `batch_size` must divide `num_samples`.
    """
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    keep_memory()
    networks = appendix(state, images.device)

    class Encoder(BaseEncoder):
        def forward(self, x: Tensor) -> ModelOutput:
            loc, log_var = networks.g(x).chunk(2, -1)
            return ModelOutput(embedding=loc, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=networks.f(z))

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=networks.d, reconstruction_loss="bce")
    vae = VAE(config, Encoder(), Decoder()).eval()
    batch = min(100, num_samples)

    @torch.no_grad()
    def work() -> np.ndarray:
        return np.array(
            [vae.get_nll(x, n_samples=num_samples, batch_size=batch) for x in images.split(1)]
        )

    return work
