"""Guides side by side: what each buys, on the same images, with the evidence beside it.

For a guide q of a model, nats per image:

    log p(x) - ELBO(q) = [log p(x) - ELBO(q*)]  +  [ELBO(q*) - ELBO(q)]
                          approximation gap         amortisation gap

with q* the best member of q's family for that one image. The first is the family's fault, the
second the encoder's. Both are >= 0 but for Monte Carlo error and for what is missing to q*.

References:
    Cremer, Li, Duvenaud (2018), Inference suboptimality in variational autoencoders, ICML, eq. 6.
"""

import time
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from pyro_vae.errors import InputError, check_counts
from pyro_vae.guides import Amortised, optimal
from pyro_vae.importance import Estimate, Program, estimate, iwae, log_likelihood, log_weights
from pyro_vae.intervals import mean_interval
from pyro_vae.refined import Refined


class Evaluation(NamedTuple):
    """A guide on B images. Arrays `(B,)`, nats per image; gaps are of the first G images."""

    estimate: Estimate  # from K samples of the guide; its `elbo` is the guide's
    iwae_100: np.ndarray
    log_p: Estimate  # from the refined guide: what the others are held against
    best_elbo: np.ndarray | None  # ELBO(q*), (G,); None where the guide has no family to search
    gap_images: int  # G
    parameters: int
    seconds: float  # to draw and weigh the K samples of all images

    def gaps(self) -> dict[str, np.ndarray]:
        """log p(x) - ELBO of the first G images, and where q* is known its two parts."""
        some = slice(self.gap_images)
        log_p, elbo = self.log_p.value[some], self.estimate.elbo[some]
        gaps = {"sum": log_p - elbo}
        if self.best_elbo is not None:
            gaps["approximation"] = log_p - self.best_elbo
            gaps["amortisation"] = self.best_elbo - elbo
        return gaps


def evaluate(
    model: Program,
    guide: Program,
    x: Tensor,
    *labels: Tensor,
    log_p: Estimate | None = None,
    num_samples: int = 1000,
    gap_images: int = 100,
    seed: int = 0,
    progress: str | None = None,
) -> Evaluation:
    """Everything the table shows of a guide, from `num_samples` samples for each image of `x`.

    `log_p` is the refined estimate of the same images under the same model; it is made here if it
    is not given. Gaps are found for the first `gap_images` images.
    """
    check_counts(gap_images=gap_images)
    if num_samples < 100:
        raise InputError(f"num_samples must be >= 100 for IWAE-100, not {num_samples}")
    gap_images = min(gap_images, len(x))
    start = time.perf_counter()
    log_w = log_weights(
        model, guide, x, *labels, num_samples=num_samples, seed=seed, progress=progress
    )
    seconds = time.perf_counter() - start
    if log_p is None:
        log_p = log_likelihood(
            model, Refined(model, guide), x, *labels, num_samples=1000, seed=seed, progress=progress
        )
    best = None
    if isinstance(guide, Amortised):
        some = [row[:gap_images] for row in (x, *labels)]
        best = log_likelihood(
            model,
            optimal(model, guide),
            *some,
            num_samples=num_samples,
            seed=seed,
            progress=progress and f"{progress}: gaps",
        ).elbo
    weights = guide.parameters() if isinstance(guide, nn.Module) else ()
    return Evaluation(
        estimate(log_w),
        iwae(log_w, 100).numpy(),
        log_p,
        best,
        gap_images,
        sum(w.numel() for w in weights),
        seconds,
    )


def compare(model: Program, guides: dict[str, Program], x: Tensor, *labels: Tensor) -> list[dict]:
    """Print the table of trained `guides` of one model on the images `x`, and return its rows."""
    if not guides:
        raise InputError("guides must hold at least one: {name: guide}")
    found: dict[str, Evaluation] = {}
    for name, guide in guides.items():
        known = next(iter(found.values())).log_p if found else None
        found[name] = evaluate(model, guide, x, *labels, log_p=known, progress=name)
    rows = table(found)
    print(as_text(rows))
    return rows


def table(found: dict[str, Evaluation]) -> list[dict]:
    """One row a guide, in JSON's own types; differences are to the first guide, image by image."""
    first = next(iter(found.values()))
    rows = []
    for name, result in found.items():
        rows.append(
            {
                "guide": name,
                "elbo": mean_interval(result.estimate.elbo),
                "elbo_minus_first": mean_interval(result.estimate.elbo - first.estimate.elbo),
                "iwae_100": mean_interval(result.iwae_100),
                "iwae_100_minus_first": mean_interval(result.iwae_100 - first.iwae_100),
                "log_p": mean_interval(result.log_p.value)
                | {
                    "estimator": "importance sampling, refined guide",
                    "num_samples": result.log_p.num_samples,
                    "mc_se": float(
                        np.sqrt(np.square(result.log_p.se).sum()) / len(result.log_p.se)
                    ),
                    "share_trusted": float(result.log_p.trusted().mean()),
                },
                "log_p_minus_first": mean_interval(result.log_p.value - first.log_p.value),
                "num_samples": result.estimate.num_samples,
                "share_trusted": float(result.estimate.trusted().mean()),
                "median_khat": float(np.median(result.estimate.khat)),
                "median_ess": float(np.median(result.estimate.ess)),
                "gaps": {key: mean_interval(gap) for key, gap in result.gaps().items()},
                "parameters": result.parameters,
                "seconds": {"evaluate": result.seconds},
            }
        )
    return rows


def pairs(found: dict[str, Evaluation]) -> dict[str, dict[str, dict]]:
    """ELBO and log p(x) of one guide minus another's, image by image: `pairs[one][other]`."""
    return {
        one: {
            other: {
                "elbo": mean_interval(a.estimate.elbo - b.estimate.elbo),
                "log_p": mean_interval(a.log_p.value - b.log_p.value),
            }
            for other, b in found.items()
            if other != one
        }
        for one, a in found.items()
    }


def as_text(rows: list[dict]) -> str:
    """The table for a terminal. A star marks a difference whose interval is clear of zero."""
    head = (
        f"{'guide':<24}{'ELBO':>9}  {'minus the first, 95%':<28}{'IWAE-100':>9}{'log p':>9}"
        f"{'k-hat ok':>10}{'ESS':>6}{'approx.':>9}{'amort.':>8}{'weights':>11}{'train s':>9}"
        f"{'eval s':>8}"
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
    first = rows[0]
    lines.append(
        f"nats per image over {first['elbo']['images']} images, gaps over "
        f"{first['gaps']['sum']['images']}; k-hat and ESS of {first['num_samples']} samples; "
        "* clear of zero; ? not known"
    )
    return "\n".join(lines)
