"""Are 100 samples enough?"""

import time

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from torch import Tensor

from experiments.question_b.study import SEED, Vae, spearman
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.likelihood.annealing import annealed_log_likelihood, bidirectional_bounds
from pyro_vae.likelihood.estimate import Estimate, estimate, iwae
from pyro_vae.likelihood.importance import log_weights
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.likelihood.psis import khat_threshold

CURVE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def enough(
    vae: Vae, x: Tensor, first: Estimate, annealed_images: int
) -> tuple[Figure, dict, Estimate]:
    """The curve from 1 to 5,000 samples, against the refined guide and annealing.

    `first` holds the 100-sample estimates of the images `x`.
    """
    start = time.perf_counter()
    log_w = log_weights(
        vae.model,
        vae.guide,
        x.to(vae.device),
        num_samples=CURVE[-1],
        seed=SEED,
        progress=f"{CURVE[-1]:,} samples of the guide",
    )
    guide_seconds = time.perf_counter() - start
    last = estimate(log_w)
    start = time.perf_counter()
    refined = vae.refined(x, "refined log p")
    refined_seconds = time.perf_counter() - start
    curve = [float(iwae(log_w, k).mean()) for k in CURVE]
    trusted = {k: float(estimate(log_w[:k]).trusted().mean()) for k in CURVE if k >= 50}

    some = x[:annealed_images].to(vae.device)
    annealed = annealed_log_likelihood(
        vae.model,
        vae.guide,
        some,
        num_chains=32,
        seed=SEED,
        progress="annealing, a pilot and a run",
    )
    near = refined.of(slice(annealed_images))
    doubtful = np.abs(z_scores(near, annealed)) > 4
    bounds = bidirectional_bounds(
        vae.model,
        vae.guide,
        some[: max(2, len(some) // 4)],
        seed=SEED,
        progress="annealing both ways, simulated images",
    )
    simulated = vae.refined(bounds.images, "refined log p of simulated images")

    metrics = {
        "iwae": {"num_samples": list(CURVE), "mean": curve},
        "share_trusted": {str(k): share for k, share in trusted.items()},
        "guide_5000": last.summary(),
        "refined": refined.summary() | {"pixels": "grey (surrogate score)"},
        "refined_minus_guide_5000": mean_interval(refined.value - last.value),
        "refined_minus_guide_100": mean_interval(refined.value - first.value),
        "error_bars_of_100_hold_refined": coverage(first, refined),
        "rank_correlation_100_refined": spearman(first.value, refined.value),
        # of the variance of the 100-sample scores: what they owe to their own errors
        "share_of_variance": float((refined.value - first.value).var() / first.value.var()),
        "annealed": annealed.summary() | {"estimator": "annealed importance sampling"},
        "refined_minus_annealed": mean_interval(near.value - annealed.value)
        | agreement(near, annealed),
        "median_refined_minus_annealed": float(np.median(near.value - annealed.value)),
        "doubtful": doubtful_images(vae, some, near, annealed, doubtful),
        "simulated": {
            "lower": float(bounds.lower.value.mean()),
            "upper": float(-bounds.upper.value.mean()),
            "refined": float(simulated.value.mean()),
            "upper_minus_lower": mean_interval(-bounds.upper.value - bounds.lower.value),
            "refined_minus_lower": mean_interval(simulated.value - bounds.lower.value),
            "upper_minus_refined": mean_interval(-bounds.upper.value - simulated.value),
        },
        "seconds": {"guide_5000": guide_seconds, "refined": refined_seconds},
    }
    return enough_figure(first, refined, annealed, metrics), metrics, refined


def coverage(rough: Estimate, fine: Estimate) -> float:
    """The share of images whose 95% interval by `rough` holds the value of `fine`."""
    return float((np.abs(z_scores(rough, fine)) <= 1.96).mean())


def z_scores(one: Estimate, other: Estimate) -> np.ndarray:
    """Differences in units of their own standard errors: about N(0, 1) where both are right."""
    return (one.value - other.value) / np.hypot(one.se, other.se)


def agreement(one: Estimate, other: Estimate) -> dict:
    """How far two estimates of the same images differ beside what their errors allow."""
    z = z_scores(one, other)
    return {
        "share_within_2_se": float((np.abs(z) <= 2).mean()),
        "median_abs_in_se": float(np.median(np.abs(z))),
        "mc_se": float(np.sqrt((one.se**2 + other.se**2).sum()) / len(z)),
    }


def doubtful_images(
    vae: Vae, x: Tensor, refined: Estimate, annealed: Estimate, doubtful: np.ndarray
) -> list[dict]:
    """Where the two differ by more than 4 standard errors: annealing again, now from the prior.

    Chains that all start in the guide's mode may never find another; those from the prior may.
    """
    where = np.flatnonzero(doubtful)
    if len(where) == 0:
        return []
    again = annealed_log_likelihood(
        vae.model,
        None,
        x[torch.from_numpy(where).to(x.device)],
        num_chains=64,
        num_steps=200,
        seed=SEED,
        progress="annealing of doubtful images, from the prior",
    )
    return [
        {
            "image": int(i),  # of those annealed
            "refined": float(refined.value[i]),
            "annealed_from_guide": float(annealed.value[i]),
            "annealed_from_prior": float(again.value[n]),
            "se_from_prior": float(again.se[n]),
        }
        for n, i in enumerate(where)
    ]


def enough_figure(first: Estimate, refined: Estimate, annealed: Estimate, metrics: dict) -> Figure:
    """Mean score by samples; refined against 100 samples (`first`); refined against annealing."""
    figure = Figure(figsize=(13.2, 4.1))
    figure.set_layout_engine("constrained")
    left, middle, right = figure.subplots(1, 3)
    samples, curve = metrics["iwae"]["num_samples"], metrics["iwae"]["mean"]
    left.plot(samples, curve, "o-", ms=4, color=COLOURS["guide"], label="$K$ samples of the guide")
    mean = refined.value.mean()
    left.axhline(mean, color=COLOURS["posterior"], label="refined guide, 1,000 samples")
    left.axhline(
        mean - metrics["median_refined_minus_annealed"],
        color=COLOURS["annealed"],
        ls=":",
        label=f"annealing (median difference of {len(annealed.value)} images)",
    )
    left.axvline(100, color="0.5", lw=0.8, ls="--")
    left.set(
        xscale="log",
        xlabel="samples $K$",
        ylabel="mean score, nats per image",
        title=f"The score rises with $K$ ({len(first.value):,} test images)",
    )
    left.legend(loc="lower right", fontsize=8.5)

    ok = first.trusted()
    gap = refined.value - first.value
    for chosen, colour, label in (
        (ok, COLOURS["posterior"], f"trusted ({ok.mean():.0%})"),
        (~ok, COLOURS["guide"], f"not trusted ({(~ok).mean():.0%})"),
    ):
        middle.plot(
            first.khat[chosen], gap[chosen], ".", ms=4, alpha=0.6, color=colour, label=label
        )
    middle.axvline(khat_threshold(100), color="0.3", lw=0.8, ls="--")
    middle.axhline(0, color="0.3", lw=0.8)
    middle.set(
        xlabel="Pareto $\\hat k$ of the image's 100 weights",
        ylabel="refined minus 100-sample score, nats\n(linear to ±1, then logarithmic)",
        title="What 100 samples miss, image by image",
    )
    signed_log(middle)
    middle.legend(fontsize=8.5)

    count = len(annealed.value)
    order = np.argsort(annealed.se)
    difference = (refined.value[:count] - annealed.value)[order]
    bars = 2 * np.hypot(refined.se[:count], annealed.se)[order]
    right.errorbar(
        np.arange(count),
        difference,
        bars,
        fmt="o",
        ms=3,
        lw=0.8,
        color=COLOURS["annealed"],
        label="± 2 standard errors of both",
    )
    right.axhline(0, color="0.3", lw=0.8)
    right.set(
        xlabel="test image, by the error of annealing",
        ylabel="refined minus annealed score, nats\n(linear to ±1, then logarithmic)",
        title=f"A second opinion: annealing, {count} images",
    )
    signed_log(right)
    right.legend(fontsize=8.5)
    return figure


def signed_log(ax: Axes) -> None:
    """Nats on an axis that is linear from -1 to 1 and logarithmic beyond."""
    ax.set_yscale("symlog", linthresh=1, linscale=1)
    ax.margins(y=0.08)
    ax.yaxis.set_major_locator(
        FixedLocator([-100, -30, -10, -3, -1, -0.5, 0, 0.5, 1, 3, 10, 30, 100])
    )
    ax.yaxis.set_major_formatter("{x:g}")
