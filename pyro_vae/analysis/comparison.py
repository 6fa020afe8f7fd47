"""Compare guides of one model on the same images, in one table, with how far to trust each score.

For a guide q of a model, nats per image:

    log p(x) - ELBO(q) = [log p(x) - ELBO(q*)]  +  [ELBO(q*) - ELBO(q)]
                          approximation gap         amortisation gap

with q* the best member of q's family for that one image. The first gap is due to the family, the
second to the encoder. Both are >= 0 but for Monte Carlo error. A search that falls short of q*
inflates the approximation gap.

References:
    Cremer, Li, Duvenaud (2018), Inference suboptimality in variational autoencoders, ICML, eq. 6.
"""

import inspect
import time
from typing import NamedTuple

import numpy as np
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_vae.accuracy import log_likelihood
from pyro_vae.analysis.gaps import best_log_weights
from pyro_vae.complaints import one_line_refusals
from pyro_vae.data.conversion import Images, Labels, as_batch
from pyro_vae.errors import InputError, check_counts, checked
from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import Estimate, estimate, iwae
from pyro_vae.likelihood.importance import log_weights
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.programs import Program, has_own_numbers, in_evaluation_mode
from pyro_vae.progress import Progress, is_watched, part
from pyro_vae.seeds import seeded


class Evaluation(NamedTuple):
    """Scores of a guide on B images. Arrays `(B,)`, nats per image; gaps for the first G images."""

    estimate: Estimate  # from K samples of the guide; its `elbo` is the guide's
    iwae_100: np.ndarray
    log_p: Estimate  # from the refined guide: the reference for the gaps
    gaps: dict[str, np.ndarray]  # "sum", and its two parts where the guide has a family, (G,)
    gap_errors: dict[str, np.ndarray]  # their Monte Carlo standard errors
    parameters: int
    seconds: float  # to draw and weigh the K samples of all images


@checked
@one_line_refusals
def evaluate(
    model: Program,
    guide: Program,
    x: Images,
    *labels: Labels,
    log_p: Estimate | None = None,
    num_samples: int = 1000,
    gap_images: int = 100,
    seed: int = 0,
    progress: Progress = None,
) -> Evaluation:
    """Compute all that the table shows of a guide, from `num_samples` samples for each image.

    `log_p` is the refined guide's estimate for the same images and model; it is made here if None.
    The gap of each of the first `gap_images` images is split in two where q* can be found: where
    the guide is amortised and its family has pathwise gradients. A guide with numbers of its own
    for each image, such as AutoNormal, is q* as far as its training found it.
    """
    check_counts(gap_images=gap_images)
    check_counts(100, num_samples=num_samples)  # for IWAE-100
    x, *labels = as_batch(model, x, *labels, progress=progress)
    if log_p is not None and len(log_p.value) != len(x):
        raise InputError(f"log_p must be of the {len(x)} images of x, not of {len(log_p.value)}")
    start = time.perf_counter()
    log_w = log_weights(
        model, guide, x, *labels, num_samples=num_samples, seed=seed, progress=progress
    )
    seconds = time.perf_counter() - start
    refined = Refined(model, guide)
    if log_p is None:
        log_p = log_likelihood(model, refined, x, *labels, se=0.1, seed=seed, progress=progress)
    batch = [tensor[:gap_images] for tensor in (x, *labels)]
    value, se = log_p.value[:gap_images], log_p.se[:gap_images]
    elbo, elbo_se = _mean(log_w[:, :gap_images])
    gaps, errors = {"sum": value - elbo}, {"sum": np.hypot(se, elbo_se)}
    if _has_pathwise_family(guide, batch):
        best, best_se = _mean(
            best_log_weights(model, guide, refined, batch, num_samples, seed, progress)
        )
        gaps |= {"approximation": value - best, "amortisation": best - elbo}
        errors |= {
            "approximation": np.hypot(se, best_se),
            "amortisation": np.hypot(best_se, elbo_se),
        }
    elif has_own_numbers(guide):  # it is q* itself: there is no encoder
        gaps |= {"approximation": gaps["sum"], "amortisation": np.zeros_like(elbo)}
        errors |= {"approximation": errors["sum"], "amortisation": np.zeros_like(elbo)}
    return Evaluation(
        estimate(log_w),
        iwae(log_w, 100).numpy(),
        log_p,
        gaps,
        errors,
        _num_weights(guide, batch),
        seconds,
    )


@in_evaluation_mode
def _has_pathwise_family(guide: Program, batch: list[Tensor]) -> bool:
    """Whether the guide has a family, and its members have draws with gradients."""
    return isinstance(guide, Amortised) and guide.q(*batch).has_rsample


@in_evaluation_mode
def _num_weights(guide: Program, batch: list[Tensor]) -> int:
    """Count a guide's weights: of a function or method those that it registers with Pyro."""
    if isinstance(guide, nn.Module):
        return sum(w.numel() for w in guide.parameters())
    if not (inspect.isfunction(guide) or inspect.ismethod(guide)):
        return 0  # fitted to each image
    with seeded(0, batch[0]), torch.no_grad():
        nodes = poutine.trace(guide).get_trace(*batch).nodes.values()
    return sum(node["value"].numel() for node in nodes if node["type"] == "param")


def _mean(log_w: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of log weights `(K, B)` over K, an ELBO, and its standard error."""
    return log_w.mean(0).numpy(), (log_w.std(0) / len(log_w) ** 0.5).numpy()


@checked
def compare(
    model: Program,
    guides: dict[str, Program],
    x: Images,
    *labels: Labels,
    progress: Progress = None,
) -> list[dict]:
    """Print the table of trained `guides` of one model on the images `x`, and return its rows.

    Each guide has its bars, where `progress`, as in `log_likelihood`, has any.

    >>> from pyro_vae import LinearGaussian, compare
    >>> problem = LinearGaussian(latent_dim=10, data_dim=20)
    >>> guides = {"exact": problem.exact_guide, "wide": problem.wide_guide}
    >>> rows = compare(problem.model, guides, problem.data(2))  # doctest: +ELLIPSIS
    guide ...
    >>> [row["gaps"]["sum"]["mean"] < 0.1 for row in rows]
    [True, False]
    """
    if not guides:
        raise InputError("guides must hold at least one: {name: guide}")
    x, *labels = as_batch(model, x, *labels, progress=progress)
    results: dict[str, Evaluation] = {}
    log_p = None
    for name, guide in guides.items():
        of_guide = part(is_watched() if progress is None else progress, name)
        results[name] = evaluate(model, guide, x, *labels, log_p=log_p, progress=of_guide)
        log_p = results[name].log_p
    rows = table(results)
    print(as_text(rows))
    return rows


def table(results: dict[str, Evaluation]) -> list[dict]:
    """Return a row per guide, in JSON's own types; differences are to the first, image by image."""
    first = next(iter(results.values()))
    rows = []
    for name, result in results.items():
        of_guide, of_refined = result.estimate.summary(), result.log_p.summary()
        rows.append(
            {
                "guide": name,
                "elbo": mean_interval(result.estimate.elbo),
                "elbo_minus_first": mean_interval(result.estimate.elbo - first.estimate.elbo),
                "iwae_100": mean_interval(result.iwae_100),
                "iwae_100_minus_first": mean_interval(result.iwae_100 - first.iwae_100),
                "log_p": mean_interval(result.log_p.value)
                | {"estimator": "importance sampling, refined guide"}
                | {key: of_refined[key] for key in ("num_samples", "mc_se", "share_trusted")},
                "log_p_minus_first": mean_interval(result.log_p.value - first.log_p.value),
                **{
                    key: of_guide[key]
                    for key in ("num_samples", "share_trusted", "median_khat", "median_ess")
                },
                "gaps": {
                    key: mean_interval(gap)
                    | {
                        "least": float(gap.min()),
                        # share of images; one in 700 by chance, were all gaps 0
                        "share_below_minus_3_se": float((gap < -3 * result.gap_errors[key]).mean()),
                    }
                    for key, gap in result.gaps.items()
                },
                "parameters": result.parameters,
                "seconds": {"evaluate": result.seconds},
            }
        )
    return rows


def pairs(results: dict[str, Evaluation]) -> dict[str, dict[str, dict]]:
    """Return the scores of each guide minus another's, image by image: `pairs[first][second]`."""
    return {
        first: {
            second: {
                "elbo": mean_interval(a.estimate.elbo - b.estimate.elbo),
                "iwae_100": mean_interval(a.iwae_100 - b.iwae_100),
                "log_p": mean_interval(a.log_p.value - b.log_p.value),
            }
            for second, b in results.items()
            if second != first
        }
        for first, a in results.items()
    }


def as_text(rows: list[dict]) -> str:
    """Return the table for a terminal. A star marks a difference whose interval excludes zero.

    Rows that have a "calibration", a summary of `Calibration`, show how far ranks are from uniform.
    """
    calibrated = any(row.get("calibration") for row in rows)
    head = (
        f"{'guide':<24}{'ELBO':>9}  {'minus the first, 95%':<28}{'IWAE-100':>9}{'log p':>9}"
        f"{'k-hat ok':>10}{'ESS':>6}{'approx.':>9}{'amort.':>8}{'weights':>11}{'train s':>9}"
        f"{'eval s':>8}{'ranks off' if calibrated else '':>{11 if calibrated else 0}}"
    )
    lines = [head, "-" * len(head)]
    for row in rows:
        low, high = row["elbo_minus_first"]["ci95"]
        star = "*" if low > 0 or high < 0 else ""
        difference = f"{row['elbo_minus_first']['mean']:.2f} [{low:.2f}, {high:.2f}]{star}"
        approximation, amortisation = (
            f"{row['gaps'][key]['mean']:.2f}" if key in row["gaps"] else "?"
            for key in ("approximation", "amortisation")
        )
        train = row["seconds"].get("train")
        lines.append(
            f"{row['guide'][:23]:<24}{row['elbo']['mean']:>9.2f}  {difference:<28}"
            f"{row['iwae_100']['mean']:>9.2f}{row['log_p']['mean']:>9.2f}"
            f"{row['share_trusted']:>10.0%}{row['median_ess']:>6.0f}{approximation:>9}"
            f"{amortisation:>8}{row['parameters']:>11,}"
            f"{'?' if train is None else f'{train:.0f}':>9}{row['seconds']['evaluate']:>8.0f}"
        )
        if calibration := row.get("calibration"):
            off = "*" if calibration["p_value"] < 0.05 else ""
            lines[-1] += f"{calibration['largest_distance']:>10.0%}{off}"
    first = rows[0]
    lines.append(
        f"nats per image over {first['elbo']['images']} images, gaps over "
        f"{first['gaps']['sum']['images']}; k-hat and ESS of {first['num_samples']} samples; "
        "* clear of zero; ? not known"
    )
    return "\n".join(lines)
