"""log p(x) of each image by importance sampling, with any guide as the proposal.

With K samples z_k ~ q(z | x) and log weights log w_k = log p(x, z_k) - log q(z_k | x),

    ELBO     = mean_k log w_k
    IWAE-K   = log mean_k w_k                      E[ELBO] <= E[IWAE-K] <= E[IWAE-K+1] <= log p(x)

mean_k w_k is an unbiased estimate of p(x) for any guide, so IWAE-K tends to log p(x). How fast
depends on the spread of the weights: each estimate carries its standard error, effective sample
size and Pareto k-hat.

References:
    Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders, eq. 8 and theorem 1.
"""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_vae.complaints import one_line_refusals
from pyro_vae.data.conversion import Images, Labels, as_batch, check_batch
from pyro_vae.errors import check_counts, check_rows, check_seed, checked
from pyro_vae.likelihood.estimate import Estimate, estimate
from pyro_vae.likelihood.masking import check_unseen, masked
from pyro_vae.likelihood.traces import draw, log_joint
from pyro_vae.memory import memory_kept
from pyro_vae.programs import Program, evaluating, has_own_numbers
from pyro_vae.progress import Progress, progress_bar
from pyro_vae.seeds import derive_seed, seeded, without_inference_mode

DRAWS = 100_000  # latents held at a time: d floats each
IMAGES = 100  # images that the guide encodes at a time
# latents that pass through the model at a time: on a CPU as many as its cache holds, on a GPU as
# many as keep it busy
CHUNK = {"cpu": 1000, "cuda": 20_000}


@checked
@memory_kept()
def log_likelihood(
    model: Program,
    guide: Program,
    x: Images,
    *labels: Labels,
    num_samples: int = 100,
    seed: int = 0,
    mask: Tensor | np.ndarray | None = None,
    chunk_size: int | None = None,
    progress: Progress = None,
) -> Estimate:
    """Estimate log p(x), or log p(x | y), of each image by `num_samples` of the guide.

    It is `pyro_vae.log_likelihood` without `se`: the arguments and the errors are said there.

    >>> from pyro_vae import LinearGaussian, log_likelihood
    >>> problem = LinearGaussian()  # whose log p(x) is known
    >>> x = problem.data(3)
    >>> result = log_likelihood(problem.model, problem.wide_guide, x, num_samples=1000)
    >>> bool((abs(result.value - problem.log_likelihood(x).numpy()) < 5 * result.se).all())
    True
    """
    batch = as_batch(model, x, *labels, progress=progress)
    with progress_bar(progress, len(batch[0]), "img") as bar:
        blocks = blocks_of_weights(model, guide, batch, num_samples, seed, mask, chunk_size, bar)
        return Estimate.concatenate([estimate(log_w) for log_w in blocks])


@checked
@memory_kept()
def log_weights(
    model: Program,
    guide: Program,
    x: Images,
    *labels: Labels,
    num_samples: int = 100,
    seed: int = 0,
    mask: Tensor | np.ndarray | None = None,
    chunk_size: int | None = None,
    progress: Progress = None,
) -> Tensor:
    """Return the log weights `(K, B)` that `log_likelihood` uses, float64, on the CPU.

    Takes the arguments of `log_likelihood` and raises its errors.

    >>> from pyro_vae import LinearGaussian, log_weights
    >>> problem = LinearGaussian()
    >>> log_weights(problem.model, problem.wide_guide, problem.data(3), num_samples=50).shape
    torch.Size([50, 3])
    """
    batch = as_batch(model, x, *labels, progress=progress)
    with progress_bar(progress, len(batch[0]), "img") as bar:
        blocks = blocks_of_weights(model, guide, batch, num_samples, seed, mask, chunk_size, bar)
        return torch.cat(list(blocks), dim=1)


def blocks_of_weights(
    model: Program,
    guide: Program,
    everything: list[Tensor],
    num_samples: int,
    seed: int,
    mask: Tensor | np.ndarray | None,
    chunk_size: int | None,
    bar: tqdm,
) -> Iterator[Tensor]:
    """Yield the log weights `(K, b)` of successive blocks of b images; count them in `bar`."""
    x, *labels = everything
    check_batch(model, guide, *everything, seen=mask is not None)
    blocks = image_blocks(len(x), num_samples)
    if mask is not None:
        model, guide, everything = masked(model, guide, x, mask, labels)
        check_unseen(model, [tensor[blocks[0]] for tensor in everything])
    if images_at_a_time(guide, everything, blocks[0].stop) > blocks[0].stop:
        yield _all_images(model, guide, everything, num_samples, seed, chunk_size)
        bar.update(len(x))
        return
    for block in blocks:
        batch = [tensor[block] for tensor in everything]
        yield block_log_weights(model, guide, batch, block.start, num_samples, seed, chunk_size)
        bar.update(len(batch[0]))


@checked
def image_blocks(images: int, num_samples: int) -> list[slice]:
    """Cut so many images into the blocks that are scored together; only K sets their size."""
    check_counts(images=images, num_samples=num_samples)
    size = min(IMAGES, max(1, DRAWS // num_samples))
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]


def _all_images(
    model: Program,
    guide: Program,
    everything: list[Tensor],
    num_samples: int,
    seed: int,
    chunk_size: int | None,
) -> Tensor:
    """Return the log weights `(K, B)` of all images at once, by as many samples as fit in DRAWS."""
    if hasattr(guide, "fixed"):  # a refined guide is fitted once for all its samples
        with seeded(seed, everything[0]), torch.no_grad(), evaluating(model, guide):
            guide = guide.fixed(*without_inference_mode(everything))
    size = max(1, DRAWS // len(everything[0]))
    pieces = [
        block_log_weights(
            model, guide, everything, start, min(size, num_samples - start), seed, chunk_size
        )
        for start in range(0, num_samples, size)
    ]
    return torch.cat(pieces)


def scored_together(guide: Program, everything: list[Tensor], num_samples: int) -> list[slice]:
    """Cut the images into blocks, or leave them in one where the guide needs all at a time."""
    blocks = image_blocks(len(everything[0]), num_samples)
    size = images_at_a_time(guide, everything, blocks[0].stop)
    return blocks if size == blocks[0].stop else [slice(0, size)]


def images_at_a_time(guide: Program, everything: list[Tensor], size: int) -> int:
    """Return `size`, or the number of images where they are more and the guide takes them whole."""
    images = len(everything[0])
    return images if size < images and _needs_all_images(guide, everything, size) else size


def _needs_all_images(guide: Program, everything: list[Tensor], size: int) -> bool:
    """Whether a guide has numbers of its own for each image, and so cannot take `size` of them.

    One of Pyro's autoguides has; of others it is tried.
    """
    if has_own_numbers(guide):
        return True
    start = getattr(guide, "guide", guide)  # what a refined guide starts from
    with seeded(0, everything[0]), torch.no_grad(), evaluating(guide):
        try:
            draw(start, without_inference_mode([tensor[:size] for tensor in everything]), 1)
        except (ValueError, RuntimeError):
            with suppress(ValueError, RuntimeError):
                draw(start, without_inference_mode(everything), 1)
                return True
    return False


@checked
@one_line_refusals
def block_log_weights(
    model: Program,
    guide: Program,
    batch: list[Tensor],
    start: int,
    num_samples: int,
    seed: int,
    chunk_size: int | None = None,
) -> Tensor:
    """Return log weights `(K, b)` of a block of b images, the first of them number `start` of all.

    The guide draws once for the block, from a seed derived from `seed` and `start`. So the draws
    depend neither on `chunk_size` nor on which process runs the block.
    """
    return weighted_draws(model, guide, batch, start, num_samples, seed, chunk_size)[1]


def weighted_draws(
    model: Program,
    guide: Program,
    batch: list[Tensor],
    start: int,
    num_samples: int,
    seed: int,
    chunk_size: int | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the guide's draws of each latent, `(K, b, ...)`, and their log weights, `(K, b)`."""
    check_counts(num_samples=num_samples)
    check_counts(0, start=start)
    check_seed(seed)
    check_rows(*batch)
    chunk_size = default_chunk_size(batch[0]) if chunk_size is None else chunk_size
    check_counts(chunk_size=chunk_size)
    with seeded(derive_seed(seed, start), batch[0]), torch.no_grad(), evaluating(model, guide):
        batch = without_inference_mode(batch)
        latents, log_q = draw(guide, batch, num_samples)
        log_p = log_joint_in_chunks(model, batch, latents, chunk_size)
        return latents, log_p - log_q.cpu().double()


def resampled(latents: dict[str, Tensor], weights: Tensor, num_draws: int) -> dict[str, Tensor]:
    """Draw `(num_draws, b, ...)` of the K draws `(K, b, ...)`, in proportion to `(K, b)` weights.

    With p(z | x) / q(z | x) as weights these are draws of p(z | x), the nearer the larger K is:
    sampling-importance-resampling (Rubin 1988).
    """
    chosen = torch.multinomial(weights.T, num_draws, replacement=True).T
    drawn = {}
    for name, z in latents.items():
        image = torch.arange(z.shape[1], device=z.device)
        # contiguous, so that sums over the draws are rounded the same for every layout
        drawn[name] = z[chosen.to(z.device), image].contiguous()
    return drawn


def log_joint_in_chunks(
    model: Program, batch: list[Tensor], latents: dict[str, Tensor], chunk_size: int | None = None
) -> Tensor:
    """Return log p(x, z), `(K, b)`, at latents `(K, b, ...)`, float64, on the CPU.

    `batch` holds the model's arguments, `[x]` or `[x, y]`. At most `chunk_size` of the K b latents
    pass through the model at a time, by default CHUNK for the device.
    """
    chunk_size = chunk_size or default_chunk_size(batch[0])
    num_samples, images = next(iter(latents.values())).shape[:2]
    depth = min(num_samples, chunk_size)  # samples at a time
    width = max(1, chunk_size // num_samples)  # images at a time
    log_p = torch.empty(num_samples, images, dtype=torch.float64, device="cpu")
    for i in range(0, images, width):
        part = [tensor[i : i + width] for tensor in batch]
        for k in range(0, num_samples, depth):
            piece = (slice(k, k + depth), slice(i, i + width))
            values = {name: value[piece] for name, value in latents.items()}
            log_p[piece] = log_joint(model, part, values, observes=True)
    return log_p


def default_chunk_size(like: Tensor) -> int:
    """Return how many latents pass through a model at a time on the device of `like`."""
    return CHUNK.get(like.device.type, CHUNK["cpu"])
