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

from pyro_vae.guides import Amortised, optimal
from pyro_vae.importance import Estimate, Program, estimate, iwae, log_likelihood, log_weights
from pyro_vae.intervals import mean_interval
from pyro_vae.refined import Refined


class Evaluation(NamedTuple):
    """A guide on B images. Arrays `(B,)`, nats per image; the gaps are on the first G images."""

    estimate: Estimate  # from K samples of the guide; its `elbo` is the guide's
    iwae_100: np.ndarray
    log_p: Estimate  # from the refined guide: what the others are held against
    best_elbo: np.ndarray | None  # ELBO(q*), (G,); None where the guide has no family to search
    parameters: int
    seconds: float  # to draw and weigh the K samples of all images

    def gaps(self) -> dict[str, np.ndarray] | None:
        """The approximation and the amortisation gap of the first G images, and their sum."""
        if self.best_elbo is None:
            return None
        log_p, elbo = (
            array[: len(self.best_elbo)] for array in (self.log_p.value, self.estimate.elbo)
        )
        return {
            "approximation": log_p - self.best_elbo,
            "amortisation": self.best_elbo - elbo,
            "sum": log_p - elbo,
        }


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
    if isinstance(guide, Amortised) and gap_images > 0:
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
        iwae(log_w, min(100, num_samples)).numpy(),
        log_p,
        best,
        sum(w.numel() for w in weights),
        seconds,
    )


def compare(model: Program, guides: dict[str, Program], x: Tensor, *labels: Tensor) -> list[dict]:
    """Print the table of trained `guides` of one model on the images `x`, and return its rows."""
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
        gaps = result.gaps()
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
                "num_samples": result.estimate.num_samples,
                "share_trusted": float(result.estimate.trusted().mean()),
                "median_khat": float(np.median(result.estimate.khat)),
                "median_ess": float(np.median(result.estimate.ess)),
                "gaps": gaps and {key: mean_interval(gap) for key, gap in gaps.items()},
                "parameters": result.parameters,
                "seconds": {"evaluate": result.seconds},
            }
        )
    return rows


def pairs(found: dict[str, Evaluation]) -> dict[str, dict[str, dict]]:
    """ELBO of one guide minus ELBO of another, image by image: `pairs[one][other]`."""
    return {
        one: {
            other: mean_interval(a.estimate.elbo - b.estimate.elbo)
            for other, b in found.items()
            if other != one
        }
        for one, a in found.items()
    }


def as_text(rows: list[dict]) -> str:
    """The table for a terminal. A star marks a difference whose interval is clear of zero."""
    head = (
        f"{'guide':<24}{'ELBO':>9}{'- first, 95%':>22} {'IWAE-100':>10}{'log p':>9}"
        f"{'k-hat ok':>9}{'ESS':>6}{'approx.':>9}{'amort.':>8}{'weights':>11}{'train s':>9}"
        f"{'eval s':>8}"
    )
    lines = [head, "-" * len(head)]
    for row in rows:
        low, high = row["elbo_minus_first"]["ci95"]
        real = "*" if low > 0 or high < 0 else " "
        gaps = row["gaps"]
        approximation, amortisation = (
            f"{gaps[key]['mean']:.2f}" if gaps else "-" for key in ("approximation", "amortisation")
        )
        train = row["seconds"].get("train")
        lines.append(
            f"{row['guide']:<24}{row['elbo']['mean']:>9.2f}"
            f"{row['elbo_minus_first']['mean']:>9.2f} [{low:.2f}, {high:.2f}]{real}".ljust(56)
            + f"{row['iwae_100']['mean']:>10.2f}{row['log_p']['mean']:>9.2f}"
            f"{row['share_trusted']:>9.0%}{row['median_ess']:>6.0f}{approximation:>9}"
            f"{amortisation:>8}{row['parameters']:>11,}"
            f"{'-' if train is None else f'{train:.0f}':>9}{row['seconds']['evaluate']:>8.0f}"
        )
    num_samples = rows[0]["num_samples"]
    lines.append(
        f"nats per image over {rows[0]['elbo']['images']} images; k-hat and ESS of {num_samples} "
        "samples; * an interval clear of zero"
    )
    return "\n".join(lines)
