"""log p(x) of each image by importance sampling, with any guide as the proposal.

With K samples z_k ~ q(z | x) and log weights log w_k = log p(x, z_k) - log q(z_k | x),

    ELBO     = mean_k log w_k
    IWAE-K   = log mean_k w_k                      E[ELBO] <= E[IWAE-K] <= E[IWAE-K+1] <= log p(x)

mean_k w_k is an unbiased estimate of p(x) whatever the guide, so that IWAE-K tends to log p(x); how
fast is told by the weights themselves, and every estimate here carries what they tell.

References:
    Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders, eq. 8 and theorem 1.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from tqdm import tqdm

from pyro_vae.errors import InputError, check_counts, check_rows, check_seed, checked
from pyro_vae.intervals import mean_interval
from pyro_vae.parallel import differentiable, seed_of, seeded
from pyro_vae.psis import check_log_weights, khat_threshold, pareto_khat

Program = Callable[..., object]  # a Pyro model or guide: program(x) or program(x, y)

DRAWS = 100_000  # draws of the guide held at a time: d floats each
IMAGES = 100  # images that the guide encodes at a time
# latents that pass through the model at a time: on a processor what its cache holds, on a GPU what
# keeps it busy
CHUNK = {"cpu": 1000, "cuda": 20_000}


class Estimate(NamedTuple):
    """log p(x) of B images with its evidence. All arrays `(B,)`, float64, nats per image."""

    value: np.ndarray  # IWAE-K, the estimate of log p(x); its expectation is a lower bound
    se: np.ndarray  # its Monte Carlo standard error (delta method); NaN at K = 1 or value -inf
    ess: np.ndarray  # effective sample size, 1..K
    khat: np.ndarray  # Pareto shape of the weights' tail
    elbo: np.ndarray  # mean log weight: the ELBO from the same samples
    zero_weights: np.ndarray  # samples with log weight -inf: kept in every mean, and counted
    num_samples: int

    def trusted(self) -> np.ndarray:
        """Whether k-hat lets each estimate be trusted at this number of samples, `(B,)`."""
        return self.khat <= khat_threshold(self.num_samples)

    def of(self, images: np.ndarray | slice) -> "Estimate":
        """The estimates of some of the images, by index."""
        return Estimate(*(array[images] for array in self[:-1]), self.num_samples)

    def summary(self) -> dict[str, float | int | bool | str]:
        """The mean over the images, and how far to trust it, in JSON's own types."""
        images = len(self.value)
        share = float(self.trusted().mean())
        over_images = mean_interval(self.value)
        return {
            "estimator": "importance sampling",
            "mean": over_images["mean"],
            # over the choice of images, and over the samples at these images
            "ci95": over_images["ci95"],
            "mc_se": float(np.sqrt(np.square(self.se).sum()) / images),
            "elbo": float(self.elbo.mean()),
            "num_samples": self.num_samples,
            "num_images": images,
            "share_trusted": share,
            "khat_threshold": khat_threshold(self.num_samples),
            "median_khat": float(np.median(self.khat)),
            "median_ess": float(np.median(self.ess)),
            "zero_weights": int(self.zero_weights.sum()),
            "verdict": _verdict(share),
        }


@checked
def log_likelihood(
    model: Program,
    guide: Program,
    x: Tensor,
    *labels: Tensor,
    num_samples: int = 100,
    seed: int = 0,
    chunk: int | None = None,
    progress: str | None = None,
) -> Estimate:
    """Estimate log p(x), or log p(x | y), of each image of `x`, shape `(B, ...)`.

    Any Pyro model and guide serve that take `(x, *labels)` and have one plate over the images, the
    rightmost batch dimension. Exactly `num_samples` samples are drawn per image. `chunk` is how
    many are passed through the model at a time (by default as many as CHUNK has for the device): it
    bounds the memory and leaves the result as it is, to rounding. `progress` names a progress bar.

    Raises InputError where an argument is wrong, where model and guide do not sample the same
    latent sites in one plate over the images, and where a log weight is NaN or +inf.
    """
    pieces = [
        estimate(log_w)
        for log_w in _blocks(model, guide, x, labels, num_samples, seed, chunk, progress)
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
    chunk: int | None = None,
    progress: str | None = None,
) -> Tensor:
    """The log weights `(K, B)` on which `log_likelihood` rests, float64, on the CPU.

    Arguments and errors are those of `log_likelihood`.
    """
    blocks = _blocks(model, guide, x, labels, num_samples, seed, chunk, progress)
    return torch.cat(list(blocks), dim=1)


@checked
def estimate(log_w: Tensor) -> Estimate:
    """Everything that log weights `(K, B)` tell of log p(x). -inf is a weight of zero.

    Raises InputError where one is NaN or +inf.
    """
    check_log_weights(log_w)
    num_samples = len(log_w)
    log_w = log_w.detach().double().cpu()
    value = log_w.logsumexp(0) - math.log(num_samples)
    # relative weights w / mean(w); where every weight is zero the estimate is log 0 = -inf
    w = torch.where(value.isinf(), 0.0, torch.exp(log_w - value))
    # sd(w) / (sqrt(K) mean(w)): delta method for the logarithm of a mean
    se = torch.full_like(value, math.nan)
    if num_samples > 1:
        se = torch.where(value.isinf(), math.nan, w.std(0) / math.sqrt(num_samples))
    return Estimate(
        value=value.numpy(),
        se=se.numpy(),
        ess=(w.sum(0).square() / w.square().sum(0)).nan_to_num(0.0).numpy(),
        khat=pareto_khat(log_w),
        elbo=log_w.mean(0).numpy(),
        zero_weights=log_w.isinf().sum(0).numpy(),
        num_samples=num_samples,
    )


def _verdict(share_trusted: float) -> str:
    if share_trusted >= 0.99:
        return "to be trusted"
    return (
        f"not to be trusted as log p(x): k-hat is too high for {1 - share_trusted:.0%} of the "
        "images; a lower bound only"
    )


@checked
def iwae(log_w: Tensor, num_samples: int) -> Tensor:
    """IWAE-k of each image, `(B,)`, averaged over the K // k disjoint groups in `log_w`, `(K, B)`.

    `iwae(log_w, 1)` is the ELBO, `iwae(log_w, K)` the estimate of log p(x).
    """
    check_log_weights(log_w)
    check_counts(num_samples=num_samples)
    if num_samples > len(log_w):
        raise InputError(
            f"num_samples must be 1 to {len(log_w)} (the log weights), not {num_samples}"
        )
    groups = len(log_w) // num_samples
    grouped = log_w[: groups * num_samples].unflatten(0, (groups, num_samples))
    return (grouped.logsumexp(1) - math.log(num_samples)).mean(0)


def _blocks(
    model: Program,
    guide: Program,
    x: Tensor,
    labels: tuple[Tensor, ...],
    num_samples: int,
    seed: int,
    chunk: int | None,
    progress: str | None,
) -> Iterator[Tensor]:
    """Log weights `(K, b)` of successive blocks of b images."""
    check_rows(x, *labels)
    blocks = image_blocks(len(x), num_samples)
    with tqdm(total=len(x), desc=progress, unit="img", disable=progress is None) as bar:
        for block in blocks:
            rows = [tensor[block] for tensor in (x, *labels)]
            yield block_log_weights(model, guide, rows, block.start, num_samples, seed, chunk)
            bar.update(len(rows[0]))


@checked
def image_blocks(images: int, num_samples: int) -> list[slice]:
    """The blocks in which `images` images are worked on. They depend on K = `num_samples` alone."""
    check_counts(images=images, num_samples=num_samples)
    size = min(IMAGES, max(1, DRAWS // num_samples))
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]


@checked
def block_log_weights(
    model: Program,
    guide: Program,
    rows: list[Tensor],
    start: int,
    num_samples: int,
    seed: int,
    chunk: int | None = None,
) -> Tensor:
    """Log weights `(K, b)` of one block of b images, the first of them number `start`.

    The guide draws once for the whole block from the block's own seed. So neither `chunk`, which
    only cuts the model's work, nor who works on which block changes a single draw.
    """
    check_counts(num_samples=num_samples)
    check_counts(0, start=start)
    check_seed(seed)
    check_rows(*rows)
    chunk = chunk_of(rows[0]) if chunk is None else chunk
    check_counts(chunk=chunk)
    with seeded(seed_of(seed, start), rows[0]), torch.no_grad():
        rows = differentiable(rows)
        latents, log_q = draw(guide, rows, num_samples)
        return log_joint(model, rows, latents, chunk) - log_q.double().cpu()


def draw(guide: Program, rows: list[Tensor], num_samples: int) -> tuple[dict[str, Tensor], Tensor]:
    """K samples of each latent site, `(K, b, ...)`, and their log q(z | x), `(K, b)`."""
    particles = pyro.plate("particles", num_samples, dim=-2)
    sites = sample_sites(particles(guide), rows)
    for site in sites:
        if site["is_observed"]:
            raise InputError(
                f"the guide observes {site['name']!r}: a guide only samples, and the model observes"
            )
    latents = {site["name"]: site["value"] for site in sites}
    if not latents:
        raise InputError("the guide samples nothing: it must sample the model's latent sites")
    return latents, _sum_sites(sites, num_samples, len(rows[0]))


def draw_z(guide: Program, rows: list[Tensor], num_samples: int) -> tuple[Tensor, Tensor]:
    """As `draw`, of a guide whose one latent site is "z": the values themselves, `(K, b, d)`."""
    latents, log_q = draw(guide, rows, num_samples)
    if latents.keys() != {"z"}:
        raise InputError(f"the guide must sample 'z' and no more, not {sorted(latents)}")
    return latents["z"], log_q


def log_joint(
    model: Program, rows: list[Tensor], latents: dict[str, Tensor], chunk: int | None = None
) -> Tensor:
    """log p(x, z) at given values `(K, b, ...)` of the latent sites, `(K, b)`, float64, on the CPU.

    `rows` are the model's arguments, `[x]` or `[x, y]`. At most `chunk` of the K b values pass
    through the model at a time, by default CHUNK.
    """
    chunk = chunk or chunk_of(rows[0])
    num_samples, images = next(iter(latents.values())).shape[:2]
    depth = min(num_samples, chunk)  # samples at a time
    width = max(1, chunk // num_samples)  # images at a time
    log_p = torch.empty(num_samples, images, dtype=torch.float64)
    for i in range(0, images, width):
        rows_i = [row[i : i + width] for row in rows]
        for k in range(0, num_samples, depth):
            piece = (slice(k, k + depth), slice(i, i + width))
            values = {name: value[piece] for name, value in latents.items()}
            log_p[piece] = score(model, rows_i, values, observes=True)
    return log_p


def chunk_of(like: Tensor) -> int:
    """How many latents pass at a time through a model on the device of `like`, by default."""
    return CHUNK.get(like.device.type, CHUNK["cpu"])


def score(
    model: Program, rows: list[Tensor], latents: dict[str, Tensor], *, observes: bool = False
) -> Tensor:
    """log p(x, z), `(k, b)`, at latents `(k, b, ...)`, in one pass; differentiable.

    Of a guide it is log q(z | x); `observes` refuses one, since a model scores the images as well.
    """
    num_samples, images = next(iter(latents.values())).shape[:2]
    sites = sample_sites(poutine.condition(model, data=latents), rows)
    for site in sites:
        if not site["is_observed"]:
            raise InputError(
                f"the guide misses the model's latent site {site['name']!r}: sample it there"
            )
    if observes and {site["name"] for site in sites} <= latents.keys():
        raise InputError("the model observes nothing: it must score x, pyro.sample(..., obs=x)")
    for name in latents.keys() - {site["name"] for site in sites}:
        raise InputError(
            f"the guide samples {name!r}, which is no site of the model: remove it, or rename it"
        )
    return _sum_sites(sites, num_samples, images)


def sample_sites(program: Program, rows: list[Tensor]) -> list[dict]:
    """The sample sites of one run of a model or guide, each with its log probability."""
    trace = poutine.trace(program).get_trace(*rows)
    trace.compute_log_prob()
    sites = [trace.nodes[name] for name in trace.stochastic_nodes + trace.observation_nodes]
    return [site for site in sites if is_random(site)]


def is_random(site: dict) -> bool:
    """Whether a site of a trace is drawn or observed: no plate's choice, and nothing computed."""
    return (
        site["type"] == "sample"
        and not site_is_subsample(site)
        and not site["infer"].get("_deterministic")
    )


def _sum_sites(sites: list[dict], num_samples: int, images: int) -> Tensor:
    """The sum of the sites' log probabilities, `(K, b)`: one number per sample and image."""
    total = torch.zeros(num_samples, images)
    for site in sites:
        log_prob, name = site["log_prob"], site["name"]
        if torch.as_tensor(site["scale"] != 1).any():
            raise InputError(
                f"site {name!r} is scaled by {site['scale']}: importance weights need the unscaled "
                "density, so remove poutine.scale and the plate's subsampling"
            )
        if log_prob.dim() == 0 or log_prob.dim() > 2 or log_prob.shape[-1] != images:
            raise InputError(
                f"site {name!r} gives log probabilities of shape {tuple(log_prob.shape)}, not "
                f"{(num_samples, images)}: put it in one plate over the images and declare its "
                "other dimensions with .to_event()"
            )
        total = total.to(log_prob) + log_prob
    return total
