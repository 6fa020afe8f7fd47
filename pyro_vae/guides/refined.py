"""The refined guide: for each image a proposal of its own, fitted to its posterior.

An amortised guide locates the posterior by one pass of an encoder, and importance sampling pays for
its errors. The refined guide starts from it and, for all images of a batch at once,

1. climbs to modes of p(z | x) by Newton's method, from the guide's mean and from the best of some
   draws of the prior (`pyro_vae.guides.laplace`);
2. places at each mode a Student-t distribution with the curvature there (Laplace's approximation);
3. draws from the mixture of these and refits its weights, locations and scatters to the importance
   weights of all draws so far, in several rounds (`pyro_vae.guides.adaptive`).

Then the proposal is fixed, and "z" is sampled from it as from any guide. The draws of the fit are
not used again, so the estimate of p(x) stays unbiased.

References:
    Cornuet, Marin, Mira, Robert (2012), Adaptive Multiple Importance Sampling, Scand. J. Stat. 39.
    Cappe, Douc, Guillin, Marin, Robert (2008), Adaptive importance sampling in general mixture
    classes, Statistics and Computing 18 (the responsibility-weighted refit).
    Ionides (2008), Truncated importance sampling, JCGS 17.
"""

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_vae.errors import InputError, check_counts, checked
from pyro_vae.guides.adaptive import adaptive_importance_sampling
from pyro_vae.guides.laplace import laplace, newton_ascent
from pyro_vae.guides.student import StudentMixture
from pyro_vae.likelihood.traces import Program, log_joint, sample_sites
from pyro_vae.networks.precision import autocast, resolve_precision


class Refined:
    """The refined guide of `model`, started from any `guide` with one real latent vector per image.

    >>> import torch
    >>> from pyro_vae import Decoder, MeanField, Model, Refined, log_likelihood
    >>> _ = torch.manual_seed(0)
    >>> model = Model(Decoder(latent_dim=2))
    >>> guide = Refined(model, MeanField(model), num_starts=2, samples_per_round=(100, 200))
    >>> log_likelihood(model, guide, torch.zeros(2, 1, 28, 28), num_samples=500).trusted()
    array([ True,  True])

    Args:
        num_starts: modes sought for each image, the first from the guide's mean. By default 40 / d,
            at least 2: in few dimensions draws of the prior find modes that the guide misses; in
            many they find none, and a Newton step costs d gradients.
        newton_steps: Newton steps to each mode.
        samples_per_round: draws per image in each round of adaptive importance sampling. By default
            250, 500 and 1000, and where d > 10 another 1000, since a covariance has d (d + 1) / 2
            entries.
        precision: of the model's matrix products in these rounds, which are most of the work:
            "float32", "bfloat16", or "auto" for the faster one here. However the fit is rounded,
            its proposal is sampled and scored as it is, by the model in full precision: the
            estimate stays unbiased.
    """

    @checked
    def __init__(
        self,
        model: Program,
        guide: Program,
        *,
        num_starts: int | None = None,
        newton_steps: int = 4,
        samples_per_round: tuple[int, ...] | None = None,
        precision: str = "auto",
    ):
        if num_starts is not None:
            check_counts(num_starts=num_starts)
        check_counts(0, newton_steps=newton_steps)
        for draws in samples_per_round or ():
            check_counts(2, samples_per_round=draws)
        resolve_precision(precision)
        self.model, self.guide, self.precision = model, guide, precision
        self.num_starts, self.newton_steps = num_starts, newton_steps
        self.samples_per_round = samples_per_round

    def to(self, device: str | torch.device | torch.dtype) -> "Refined":
        """Move the weights of model and guide to a device or dtype, in place."""
        for program in (self.model, self.guide):
            if hasattr(program, "to"):  # a plain function has no weights
                program.to(device)
        return self

    def __call__(self, x: Tensor, *labels: Tensor) -> None:
        """Fit the proposal, and sample the latent of each image from it, in the plate "data"."""
        with poutine.block():  # the fit's own sites are no sites of the guide
            name, proposal = self.fit(x, *labels)
        with pyro.plate("data", len(x)):
            pyro.sample(name, proposal)

    def fit(self, x: Tensor, *labels: Tensor) -> tuple[str, StudentMixture]:
        """Return the latent site's name, and the proposal fitted to each image's posterior."""
        batch = [x, *labels]
        name, mean = _guide_mean(self.guide, batch)

        def log_p(z: Tensor) -> Tensor:
            return log_joint(self.model, batch, {name: z})

        d = mean.shape[-1]
        num_starts = self.num_starts or max(2, 40 // d)
        samples_per_round = self.samples_per_round
        if samples_per_round is None:
            samples_per_round = (250, 500, 1000) + (1000,) * (d > 10)
        with torch.no_grad():
            z = torch.stack([mean, *_best_prior_draws(self.model, batch, name, num_starts - 1)])
        proposal = laplace(log_p, newton_ascent(log_p, z, self.newton_steps))

        precision = resolve_precision(self.precision, x.device.type)

        def rounded_log_p(z: Tensor) -> Tensor:
            with autocast(precision, x):
                return log_p(z)

        with torch.no_grad():
            return name, adaptive_importance_sampling(rounded_log_p, proposal, samples_per_round)


def _guide_mean(guide: Program, batch: list[Tensor]) -> tuple[str, Tensor]:
    """Return the guide's latent site and its mean, `(B, d)`; a draw where it has no mean."""
    sites = [site for site in sample_sites(guide, batch) if not site["is_observed"]]
    if len(sites) != 1 or sites[0]["value"].dim() != 2:
        shapes = {site["name"]: tuple(site["value"].shape) for site in sites}
        raise InputError(
            f"the refined guide needs one latent site of shape (B, d), not {shapes}: "
            "join the latents into one vector"
        )
    name, drawn = sites[0]["name"], sites[0]["value"]
    try:
        mean = sites[0]["fn"].mean
    except NotImplementedError:  # a flow, for instance
        return name, drawn
    return name, torch.where(mean.isfinite(), mean, drawn)  # a Cauchy's is not


def _best_prior_draws(model: Program, batch: list[Tensor], name: str, count: int) -> list[Tensor]:
    """Return, of 20 `count` draws of the prior, the `count` with the highest log p(x, z)."""
    if count == 0:
        return []
    draws, values = [], []
    for _ in range(20 * count):
        sites = sample_sites(model, batch)
        draws.append(next(site["value"] for site in sites if site["name"] == name))
        values.append(sum(site["log_prob"] for site in sites))
    best = torch.stack(values).topk(count, dim=0).indices  # (count, B)
    return list(torch.stack(draws).gather(0, best[..., None].expand(-1, -1, draws[0].shape[-1])))
