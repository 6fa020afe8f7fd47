"""The refined guide: for each image a proposal of its own, fitted to its posterior.

An amortised guide has one pass of an encoder to say where the posterior lies, and importance
sampling pays for what it gets wrong. This guide starts from the amortised one and, for all images
of a batch at once,

1. climbs from its mean, and from the best of some draws of the prior, to modes of p(z | x) by
   Newton's method;
2. takes at each mode a Student-t distribution with the curvature there (Laplace's approximation);
3. draws from the mixture of these and refits weights, means and covariances to the importance
   weights of all draws so far, several times (adaptive multiple importance sampling).

It is then fixed, and samples "z" like any guide: what it drew to fit itself is not used again, so
that the estimate of p(x) stays unbiased.

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
from pyro_vae.networks.precision import resolve_precision


class Refined:
    """The refined guide of `model`, started from any `guide` with one real latent vector an image.

    Args:
        num_starts: modes sought for each image; the first from the guide's mean. By default 40 / d,
            at least 2: in few dimensions draws of the prior find modes that the guide does not
            know, in many they find none, and each costs d times a gradient.
        newton_steps: Newton steps to each mode.
        samples_per_round: draws an image in each round of adaptive importance sampling. By default
            250, 500 and 1000, and 1000 more where d > 10, for the d (d + 1) / 2 entries of a
            covariance.
        precision: of the model's matrix products in these rounds, which are most of the work:
            "float32", "bfloat16", or by default whichever is faster here
            (`networks.resolve_precision`). Whatever the fit was rounded to, the proposal is sampled
            and scored as it is, and the model in full: the estimate stays unbiased.
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
        self.num_starts, self.newton_steps, self.samples_per_round = (
            num_starts,
            newton_steps,
            samples_per_round,
        )

    def __call__(self, x: Tensor, *labels: Tensor) -> None:
        with poutine.block():  # the fit's own sites are no sites of the guide
            name, proposal = self.fit(x, *labels)
        with pyro.plate("data", len(x)):
            pyro.sample(name, proposal)

    def fit(self, x: Tensor, *labels: Tensor) -> tuple[str, StudentMixture]:
        """The latent site's name, and the proposal fitted to each image's posterior."""
        rows = [x, *labels]
        name, mean = _guide_mean(self.guide, rows)

        def log_p(z: Tensor) -> Tensor:
            return log_joint(self.model, rows, {name: z})

        d = mean.shape[-1]
        num_starts = self.num_starts or max(2, 40 // d)
        samples_per_round = (
            (250, 500, 1000) + (1000,) * (d > 10)
            if self.samples_per_round is None
            else self.samples_per_round
        )
        with torch.no_grad():
            z = torch.stack([mean, *_best_prior_draws(self.model, rows, name, num_starts - 1)])
        proposal = laplace(log_p, newton_ascent(log_p, z, self.newton_steps))

        device = x.device.type
        rounded = resolve_precision(self.precision, device) == "bfloat16"

        def rounded_log_p(z: Tensor) -> Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=rounded):
                return log_p(z)

        with torch.no_grad():
            return name, adaptive_importance_sampling(rounded_log_p, proposal, samples_per_round)


def _guide_mean(guide: Program, rows: list[Tensor]) -> tuple[str, Tensor]:
    """The name of the guide's latent site and its mean, `(B, d)`; a draw where it has no mean."""
    sites = [site for site in sample_sites(guide, rows) if not site["is_observed"]]
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


def _best_prior_draws(model: Program, rows: list[Tensor], name: str, count: int) -> list[Tensor]:
    """Of 20 draws of the prior per start wanted, the `count` with the highest log p(x, z)."""
    if count == 0:
        return []
    draws, values = [], []
    for _ in range(20 * count):
        sites = sample_sites(model, rows)
        draws.append(next(site["value"] for site in sites if site["name"] == name))
        values.append(sum(site["log_prob"] for site in sites))
    best = torch.stack(values).topk(count, dim=0).indices  # (count, B)
    return list(torch.stack(draws).gather(0, best[..., None].expand(-1, -1, draws[0].shape[-1])))
