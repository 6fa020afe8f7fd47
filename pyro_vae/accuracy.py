"""log p(x) of each image: by a number of samples, or to a standard error that the user names."""

import math

import numpy as np
import torch
from torch import Tensor

from pyro_vae.complaints import one_line_refusals
from pyro_vae.data.conversion import Images, Labels, as_batch, check_batch
from pyro_vae.errors import InputError, check_counts, check_number, check_seed, checked
from pyro_vae.guides.refined import Refined, refined_for
from pyro_vae.likelihood import importance
from pyro_vae.likelihood.estimate import Estimate, sum_of
from pyro_vae.likelihood.masking import check_unseen, masked
from pyro_vae.memory import memory_kept
from pyro_vae.programs import Program, evaluating
from pyro_vae.progress import Progress, progress_bar
from pyro_vae.seeds import derive_seed, seeded, without_inference_mode

MOST = 10_000  # draws of an image, unless the caller says otherwise


@checked
@memory_kept()
def log_likelihood(
    model: Program,
    guide: Program,
    x: Images,
    *labels: Labels,
    num_samples: int | None = None,
    se: float | None = None,
    seed: int = 0,
    mask: Tensor | np.ndarray | None = None,
    chunk_size: int | None = None,
    progress: Progress = None,
) -> Estimate:
    """Estimate log p(x), or log p(x | y), of each image of `x`, `(B, ...)`; nats per image.

    Args:
        x, labels: tensors, arrays or lists; x may be a Dataset or DataLoader: see `as_images`.
        model, guide: Pyro programs of `(x, *labels)` with the same latent sites, in one plate over
            the images, the rightmost batch dimension. They run in evaluation mode.
        num_samples: samples K of the guide, drawn for each image, by default 100.
        se: the standard error that you want, in nats, such as 0.1. A proposal is then fitted to
            each image (`Refined`), and draws are added until k-hat passes and the standard error is
            at most `se`, or until the image has had `num_samples` draws, by default 10,000, for
            each label or value of a discrete latent. `result.trusted() & (result.se <= se)` says
            which images got there. Neither can tell of a mode that no draw has met.
        mask: True where a pixel is seen, bool, of the shape of an image or of x. The estimate is
            then of log p(x_seen); pixels that are not seen may be anything, NaN too.
        chunk_size: latents that pass through the model at a time, by default CHUNK for the device,
            as always with `se`. It bounds the memory, and changes the result by rounding only.
        progress: a bar by default appears after a few seconds, in a terminal or notebook. False
            turns it off; True, or a name for it, shows it at once and everywhere.

    Raises InputError where model and guide do not match, or a log weight is NaN or +inf.

    >>> from pyro_vae import LinearGaussian, log_likelihood
    >>> problem = LinearGaussian()  # whose log p(x) is known
    >>> x = problem.data(3)
    >>> result = log_likelihood(problem.model, problem.wide_guide, x, se=0.1)
    >>> bool((abs(result.value - problem.log_likelihood(x).numpy()) < 0.5).all())
    True
    """
    if se is None:
        options = {"seed": seed, "mask": mask, "chunk_size": chunk_size, "progress": progress}
        num_samples = 100 if num_samples is None else num_samples
        by_samples = importance.log_likelihood
        return by_samples(model, guide, x, *labels, num_samples=num_samples, **options)
    most = most_draws(se, num_samples)
    if chunk_size is not None:
        raise InputError("chunk_size goes with num_samples: leave it out where se is given")
    check_seed(seed)
    everything = as_batch(model, x, *labels, progress=progress)
    check_batch(model, guide, *everything, seen=mask is not None)
    refined = refined_for(model, guide)
    blocks = importance.scored_together(refined, everything, 1)
    if mask is not None:
        x, *rest = everything
        model, refined, everything = masked(model, refined, x, mask, rest)
        check_unseen(model, [tensor[blocks[0]] for tensor in everything])
    parts = []
    with progress_bar(progress, len(everything[0]), "img") as bar:
        for block in blocks:
            batch = [tensor[block] for tensor in everything]
            parts.append(block_to_accuracy(refined, batch, block.start, se, most, seed))
            bar.update(len(batch[0]))
    return Estimate.concatenate(parts)


def most_draws(se: float, num_samples: int | None) -> int:
    """Check a standard error that is asked for; return how many draws an image may have."""
    check_number("se", se, 1e-3)
    check_counts(26, num_samples=MOST if num_samples is None else num_samples)  # or no k-hat is
    return MOST if num_samples is None else num_samples


@memory_kept()
def sum_over_labels(
    model: Program, guide: Program, x: Tensor, labels: Tensor, *, seed: int = 0, **options: object
) -> Estimate:
    """Estimate log p(x) = log sum_v p(x | y = v) / C of each image, by programs of `(x, y)`.

    The C values v are `labels`, `(C,)`. `options` are those of `log_likelihood`.
    """
    parts = []
    for v, value in enumerate(labels):
        y = value.expand(len(x))
        parts.append(log_likelihood(model, guide, x, y, seed=derive_seed(seed, v), **options))
    return sum_of(parts, [-math.log(len(labels))] * len(labels))


@one_line_refusals
def block_to_accuracy(
    refined: Refined,
    batch: list[Tensor],
    start: int,
    se: float,
    most: int,
    seed: int,
) -> Estimate:
    """Estimate log p(x) of a block of images, the first of them number `start` of all."""
    programs = refined.model, refined.guide
    with seeded(derive_seed(seed, start), batch[0]), torch.no_grad(), evaluating(*programs):
        return refined.to_accuracy(without_inference_mode(batch), se, most)
