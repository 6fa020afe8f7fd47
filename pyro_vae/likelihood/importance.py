"""log p(x) of each image by importance sampling, with any guide as the proposal.

With K samples z_k ~ q(z | x) and log weights log w_k = log p(x, z_k) - log q(z_k | x),

    ELBO     = mean_k log w_k
    IWAE-K   = log mean_k w_k                      E[ELBO] <= E[IWAE-K] <= E[IWAE-K+1] <= log p(x)

mean_k w_k is an unbiased estimate of p(x) whatever the guide, so that IWAE-K tends to log p(x); how
fast is told by the weights themselves, and every estimate here carries what they tell.

References:
    Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders, eq. 8 and theorem 1.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pyro_vae.errors import check_counts, check_rows, check_seed, checked, one_line_refusals
from pyro_vae.likelihood.estimate import Estimate, estimate
from pyro_vae.likelihood.traces import Program, draw, log_joint
from pyro_vae.seeds import derive_seed, seeded, without_inference_mode

DRAWS = 100_000  # draws of the guide held at a time: d floats each
IMAGES = 100  # images that the guide encodes at a time
# latents that pass through the model at a time: on a processor what its cache holds, on a GPU what
# keeps it busy
CHUNK = {"cpu": 1000, "cuda": 20_000}


@checked
def log_likelihood(
    model: Program,
    guide: Program,
    x: Tensor,
    *labels: Tensor,
    num_samples: int = 100,
    seed: int = 0,
    chunk_size: int | None = None,
    progress: str | None = None,
) -> Estimate:
    """Estimate log p(x), or log p(x | y), of each image of `x`, shape `(B, ...)`.

    Any Pyro model and guide serve that take `(x, *labels)` and have one plate over the images, the
    rightmost batch dimension. Exactly `num_samples` samples are drawn per image. `chunk_size` is
    how many are passed through the model at a time (by default as many as CHUNK has for the
    device): it bounds the memory and leaves the result as it is, to rounding. `progress` names a
    progress bar.

    Raises InputError where an argument is wrong, where model and guide do not sample the same
    latent sites in one plate over the images, and where a log weight is NaN or +inf.
    """
    pieces = [
        estimate(log_w)
        for log_w in _blocks(model, guide, x, labels, num_samples, seed, chunk_size, progress)
    ]
    arrays = zip(*(piece[:-1] for piece in pieces), strict=True)
    return Estimate(*(np.concatenate(array) for array in arrays), num_samples)


@checked
def log_weights(
    model: Program,
    guide: Program,
    x: Tensor,
    *labels: Tensor,
    num_samples: int = 100,
    seed: int = 0,
    chunk_size: int | None = None,
    progress: str | None = None,
) -> Tensor:
    """The log weights `(K, B)` on which `log_likelihood` rests, float64, on the CPU.

    Arguments and errors are those of `log_likelihood`.
    """
    blocks = _blocks(model, guide, x, labels, num_samples, seed, chunk_size, progress)
    return torch.cat(list(blocks), dim=1)


def _blocks(
    model: Program,
    guide: Program,
    x: Tensor,
    labels: tuple[Tensor, ...],
    num_samples: int,
    seed: int,
    chunk_size: int | None,
    progress: str | None,
) -> Iterator[Tensor]:
    """Log weights `(K, b)` of successive blocks of b images."""
    check_rows(x, *labels)
    blocks = image_blocks(len(x), num_samples)
    with tqdm(total=len(x), desc=progress, unit="img", disable=progress is None) as bar:
        for block in blocks:
            rows = [tensor[block] for tensor in (x, *labels)]
            yield block_log_weights(model, guide, rows, block.start, num_samples, seed, chunk_size)
            bar.update(len(rows[0]))


@checked
def image_blocks(images: int, num_samples: int) -> list[slice]:
    """The blocks in which `images` images are worked on. They depend on K = `num_samples` alone."""
    check_counts(images=images, num_samples=num_samples)
    size = min(IMAGES, max(1, DRAWS // num_samples))
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]


@checked
@one_line_refusals
def block_log_weights(
    model: Program,
    guide: Program,
    rows: list[Tensor],
    start: int,
    num_samples: int,
    seed: int,
    chunk_size: int | None = None,
) -> Tensor:
    """Log weights `(K, b)` of one block of b images, the first of them number `start`.

    The guide draws once for the whole block from the block's own seed. The draws depend neither on
    `chunk_size` nor on which process runs the block.
    """
    check_counts(num_samples=num_samples)
    check_counts(0, start=start)
    check_seed(seed)
    check_rows(*rows)
    chunk_size = default_chunk_size(rows[0]) if chunk_size is None else chunk_size
    check_counts(chunk_size=chunk_size)
    with seeded(derive_seed(seed, start), rows[0]), torch.no_grad():
        rows = without_inference_mode(rows)
        latents, log_q = draw(guide, rows, num_samples)
        return log_joint_in_chunks(model, rows, latents, chunk_size) - log_q.double().cpu()


def log_joint_in_chunks(
    model: Program, rows: list[Tensor], latents: dict[str, Tensor], chunk_size: int | None = None
) -> Tensor:
    """log p(x, z) at given values `(K, b, ...)` of the latent sites, `(K, b)`, float64, on the CPU.

    `rows` are the model's arguments, `[x]` or `[x, y]`. At most `chunk_size` of the K b values pass
    through the model at a time, by default CHUNK.
    """
    chunk_size = chunk_size or default_chunk_size(rows[0])
    num_samples, images = next(iter(latents.values())).shape[:2]
    depth = min(num_samples, chunk_size)  # samples at a time
    width = max(1, chunk_size // num_samples)  # images at a time
    log_p = torch.empty(num_samples, images, dtype=torch.float64)
    for i in range(0, images, width):
        rows_i = [row[i : i + width] for row in rows]
        for k in range(0, num_samples, depth):
            piece = (slice(k, k + depth), slice(i, i + width))
            values = {name: value[piece] for name, value in latents.items()}
            log_p[piece] = log_joint(model, rows_i, values, observes=True)
    return log_p


def default_chunk_size(like: Tensor) -> int:
    """How many latents pass at a time through a model on the device of `like`, by default."""
    return CHUNK.get(like.device.type, CHUNK["cpu"])
