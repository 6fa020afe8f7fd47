"""Complete images of which some pixels are seen: what the model thinks of the others.

With p(z | x_seen) the posterior given the pixels that are seen,

    p(x_missing | x_seen) = E[p(x_missing | z)],  z ~ p(z | x_seen)
    log p(x_missing | x_seen) = log p(x) - log p(x_seen)

A completion is a draw from the first line: the refined guide is fitted to p(z | x_seen), its draws
are resampled in proportion to their weights, and the pixels that are not seen are those of
p(x | z). The second line says how likely the true pixels were, in nats.

References:
    Rubin (1988), Using the SIR algorithm to simulate posterior distributions (the resampling).
    Rezende, Mohamed, Wierstra (2014), Stochastic backpropagation, section 5.4 (imputation).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_vae.complaints import one_line_refusals
from pyro_vae.data.conversion import Images, Labels, as_batch, check_batch
from pyro_vae.errors import InputError, check_counts, check_seed, checked
from pyro_vae.guides.refined import refined_for
from pyro_vae.likelihood.estimate import Estimate, estimate
from pyro_vae.likelihood.importance import (
    default_chunk_size,
    log_likelihood,
    resampled,
    scored_together,
    weighted_draws,
)
from pyro_vae.likelihood.masking import MaskedModel, check_unseen, masked
from pyro_vae.likelihood.traces import sites_at
from pyro_vae.memory import memory_kept
from pyro_vae.programs import Program, evaluating
from pyro_vae.progress import Progress, progress_bar
from pyro_vae.seeds import derive_seed, seeded


class Completion(NamedTuple):
    """What the pixels that are seen say of the others; arrays `(B,)`, float64, nats per image."""

    images: Tensor  # (num_draws, B, ...): the seen pixels as given, the others completed
    seen: Estimate  # of log p(x_seen)
    missing: np.ndarray | None  # log p(x_missing | x_seen); None where x is not known as a whole
    missing_se: np.ndarray | None  # its standard error: of two estimates with seeds of their own

    @property
    def ess(self) -> np.ndarray:
        """Effective sample sizes, `(B,)`, of the resampled draws. Where low, completions repeat."""
        return self.seen.ess


@checked
@memory_kept()
def complete(
    model: Program,
    guide: Program,
    x: Images,
    mask: Tensor | np.ndarray,
    *labels: Labels,
    num_draws: int = 5,
    num_samples: int = 1000,
    pixels: bool = False,
    seed: int = 0,
    progress: Progress = None,
) -> Completion:
    """Complete each image of `x`, `(B, ...)`, from the pixels where `mask` is True.

    Args:
        guide: `Refined(model, guide)` is made from it, unless it is one.
        mask: bool, of the shape of an image or of x. The other pixels may be anything: no
            completion depends on them, only `missing`.
        num_draws: completions of each image.
        num_samples: samples of the refined guide, of which the completions are resampled.
        pixels: draw the pixels from p(x | z); without it they have their means.
        progress: bars of the completions and of log p(x), as in `log_likelihood`.

    >>> from pyro_vae import LinearGaussian, complete
    >>> problem = LinearGaussian(data_dim=4)
    >>> x, mask = problem.data(3), torch.tensor([True, True, False, False])
    >>> result = complete(problem.model, problem.wide_guide, x, mask)
    >>> result.images.shape
    torch.Size([5, 3, 4])
    >>> bool((result.images[..., :2] == x[:, :2]).all())  # as given
    True
    """
    check_counts(num_draws=num_draws, num_samples=num_samples)
    x, *labels = as_batch(model, x, *labels, progress=progress)
    check_batch(model, guide, x, *labels, seen=True)
    check_seed(seed)
    refined = refined_for(model, guide)
    of_seen, guide_of_seen, everything = masked(model, refined, x, mask, labels)
    blocks = scored_together(guide_of_seen, everything, num_samples)
    check_unseen(of_seen, [tensor[blocks[0]] for tensor in everything])
    images, estimates = [], []
    with progress_bar(progress, len(x), "img", "completions") as bar:
        for block in blocks:
            batch = [tensor[block] for tensor in everything]
            latents, of_block = _posterior_draws(
                of_seen, guide_of_seen, batch, block.start, num_draws, num_samples, seed
            )
            of_pixels = derive_seed(seed, block.start)
            estimates.append(of_block)
            images.append(_completed(of_seen, batch, latents, pixels, of_pixels))
            bar.update(len(batch[0]))
    seen, missing, missing_se = Estimate.concatenate(estimates), None, None
    if x.isfinite().all():
        options = {"num_samples": num_samples, "seed": derive_seed(seed, 1), "progress": progress}
        whole = log_likelihood(model, refined, x, *labels, **options)
        missing, missing_se = whole.value - seen.value, np.hypot(whole.se, seen.se)
    return Completion(torch.cat(images, 1), seen, missing, missing_se)


@one_line_refusals
def _posterior_draws(
    model: Program,
    guide: Program,
    batch: list[Tensor],
    start: int,
    num_draws: int,
    num_samples: int,
    seed: int,
) -> tuple[dict[str, Tensor], Estimate]:
    """Draw latents `(num_draws, b, ...)` from p(z | x_seen); estimate log p(x_seen)."""
    latents, log_w = weighted_draws(model, guide, batch, start, num_samples, seed)
    of_seen = estimate(log_w)
    if np.isinf(of_seen.value).any():
        raise InputError(
            "x has images whose seen pixels have probability zero at every sample: there is "
            "nothing to complete them from"
        )
    with seeded(derive_seed(seed, start, 1), batch[0]):
        return resampled(latents, torch.softmax(log_w, 0), num_draws), of_seen


@one_line_refusals
@torch.no_grad()
def _completed(
    model: MaskedModel, batch: list[Tensor], latents: dict[str, Tensor], draw: bool, seed: int
) -> Tensor:
    """Return images `(num_draws, b, ...)`: x where it is seen, and the model's elsewhere."""
    x, seen, *labels = batch
    size = max(1, default_chunk_size(x) // len(x))  # draws that pass through the model at a time
    num_draws = len(next(iter(latents.values())))
    with evaluating(model):
        # whatever x holds where it is not seen, the images must be the same
        first, second = (
            torch.cat(
                [
                    _images(model, [filled, seen, *labels], latents, slice(k, k + size), draw, seed)
                    for k in range(0, num_draws, size)
                ]
            )
            for filled in (x, x.masked_fill(~seen, 1))
        )
    if not torch.allclose(first, second, equal_nan=True):
        raise InputError(
            f"site {model.site!r} depends on pixels that mask calls not seen: to complete them, "
            "each pixel must depend on z alone"
        )
    return first


def _images(
    model: MaskedModel,
    batch: list[Tensor],
    latents: dict[str, Tensor],
    draws: slice,
    draw: bool,
    seed: int,
) -> Tensor:
    """Return the completed images at some of the draws of the latents."""
    x, seen, *_ = batch
    some = {name: value[draws] for name, value in latents.items()}
    fn = next(site.fn for site in sites_at(model, batch, some) if site.name == model.site)
    with seeded(derive_seed(seed, draws.start, 2), x):
        try:
            values = fn.sample() if draw else fn.mean
        except NotImplementedError:
            values = torch.tensor(torch.nan, device="cpu")
    if not (draw or values.isfinite().all()):  # a Categorical's mean is NaN
        raise InputError(
            f"site {model.site!r} has a distribution without a mean: ask for draws of it, "
            "pixels=True"
        )
    values = values.reshape(-1, *x.shape)
    return torch.where(seen, x.to(values), values)
