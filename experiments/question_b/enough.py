"""Are 100 samples enough to estimate log p(x)?

The estimate is a lower bound in expectation, which rises with the number of samples. So the 100
samples of the encoder's guide are held against up to 5,000 of them and against the refined guide.
The refined guide itself is held against annealed importance sampling, from the encoder and from the
prior, and against bounds on both sides at images that the model has drawn.
"""

import time

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from torch import Tensor

from experiments.question_b import SEED
from experiments.question_b.shared import refined_log_p, spearman
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.likelihood.annealing import annealed_log_likelihood, bidirectional_bounds
from pyro_vae.likelihood.estimate import Estimate, estimate, iwae
from pyro_vae.likelihood.importance import log_weights
from pyro_vae.likelihood.intervals import mean_interval, standard_error_of_mean
from pyro_vae.likelihood.psis import khat_threshold
from pyro_vae.vae import Vae

STEPS = {"encoder": 100, "prior": 200}  # of annealing, by where its chains start
CURVE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # numbers of samples
PASSED = (100, 1000, 5000)  # samples, whose passes are held against the refined guide


def measure(vae: Vae, x: Tensor, amortised: Estimate, num_annealed: int) -> tuple[dict, Estimate]:
    """Return the metrics, and the refined estimates of the images `x`.

    `amortised` holds the 100-sample estimates of `x`. Only the first `num_annealed` images are
    annealed, because that takes the longest; twice as many from the prior, which tells of modes
    that were missed; a quarter as many are simulated.
    """
    metrics, refined = more_samples(vae, x, amortised)
    twice = x[: 2 * num_annealed].to(vae.device)
    missed = from_the_prior(vae, twice, refined.subset(slice(2 * num_annealed)))
    x = twice[:num_annealed]
    second = second_opinion(vae, x, refined.subset(slice(num_annealed)))
    both_sides = simulated_images(vae, x[: max(2, len(x) // 4)])
    metrics |= second | {"simulated": both_sides, "from_the_prior": missed}
    return metrics, refined


def more_samples(vae: Vae, x: Tensor, amortised: Estimate) -> tuple[dict, Estimate]:
    """Return how 1 to 5,000 samples compare with the refined guide, and its estimates."""
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
    by_samples = {k: estimate(log_w[:k]) for k in CURVE if k >= 50}
    last = by_samples[CURVE[-1]]
    start = time.perf_counter()
    refined = refined_log_p(vae, x, "refined log p")
    refined_seconds = time.perf_counter() - start
    metrics = {
        "iwae": {
            "num_samples": list(CURVE),
            "mean": [float(iwae(log_w, k).mean()) for k in CURVE],
        },
        "share_trusted": {str(k): float(found.trusted().mean()) for k, found in by_samples.items()},
        "guide_5000": last.summary(),
        "refined": refined.summary() | {"pixels": "grey (surrogate score)"},
        "refined_minus_guide_5000": mean_interval(refined.value - last.value),
        "refined_minus_guide_100": mean_interval(refined.value - amortised.value),
        "error_bars_of_100_hold_refined": coverage(amortised, refined),
        "of_those_that_pass": {
            str(k): passed for k in PASSED if (passed := of_those_that_pass(by_samples[k], refined))
        },
        "rank_correlation_100_refined": spearman(amortised.value, refined.value),
        # how much of the variance of the 100-sample scores is due to their own errors
        "share_of_variance": float((refined.value - amortised.value).var() / amortised.value.var()),
        "seconds": {"guide_5000": guide_seconds, "refined": refined_seconds},
    }
    return metrics, refined


def of_those_that_pass(found: Estimate, refined: Estimate) -> dict | None:
    """Return how far `found` falls short where its k-hat passes; None where fewer than two do.

    k-hat is estimated from the same weights. An image passes too where no large weight was met.
    """
    chosen = np.flatnonzero(found.trusted())
    if len(chosen) < 2:  # no interval
        return None
    rough, fine = found.subset(chosen), refined.subset(chosen)
    return {
        "refined_minus": mean_interval(fine.value - rough.value),
        "error_bars_hold_refined": coverage(rough, fine),
    }


def second_opinion(vae: Vae, x: Tensor, refined: Estimate) -> dict:
    """Return how `refined` agrees with annealing of the images `x`."""
    annealed = annealed_log_likelihood(
        vae.model,
        vae.guide,
        x,
        num_chains=32,
        num_steps=STEPS["encoder"],
        seed=SEED,
        progress="annealing, a pilot and a run",
    )
    difference = refined.value - annealed.value
    return {
        "annealed": annealed.summary() | {"estimator": "annealed importance sampling"},
        "refined_minus_annealed": mean_interval(difference) | agreement(refined, annealed),
        "median_refined_minus_annealed": float(np.median(difference)),
    }


def from_the_prior(vae: Vae, x: Tensor, refined: Estimate) -> dict:
    """Anneal from the prior: does it find a mode that the refined guide has missed?

    Chains that all start in the encoder's mode may never find another; those from the prior may.
    Annealing is a lower bound on average. So where it is higher than the refined guide, by more
    than their errors, the refined guide has missed something. A miss must be large to be seen: a
    share of the posterior s raises log p(x) by -log(1 - s).
    """
    annealed = annealed_log_likelihood(
        vae.model,
        None,
        x,
        num_chains=8,
        num_steps=STEPS["prior"],
        seed=SEED,
        progress="annealing from the prior",
    )
    z = z_scores(annealed, refined)
    higher = np.flatnonzero(z > 4)
    return {
        "annealed": annealed.summary() | {"estimator": "annealed importance sampling"},
        "refined_minus_annealed": mean_interval(refined.value - annealed.value),
        "largest_z_of_annealed": float(z.max()),
        # the share of a posterior that a missed mode must have to be seen, in the median image
        "smallest_share_seen": float(1 - np.exp(-4 * np.median(np.hypot(annealed.se, refined.se)))),
        "missed": [
            {
                "image": int(i),  # its place in x
                "refined": float(refined.value[i]),
                "annealed_from_prior": float(annealed.value[i]),
                "se_from_prior": float(annealed.se[i]),
            }
            for i in higher
        ],
    }


def simulated_images(vae: Vae, x: Tensor) -> dict:
    """Bound log p from both sides at images that the model draws, as many as `x`.

    The latent behind such an image is an exact draw of its posterior, which the upper bound needs.
    """
    bounds = bidirectional_bounds(
        vae.model,
        vae.guide,
        x,
        num_steps=STEPS["encoder"],
        seed=SEED,
        progress="annealing both ways, simulated images",
    )
    lower, upper = bounds.lower.value, -bounds.upper.value
    refined = refined_log_p(vae, bounds.images, "refined log p of simulated images").value
    return {
        "lower": float(lower.mean()),
        "upper": float(upper.mean()),
        "refined": float(refined.mean()),
        "upper_minus_lower": mean_interval(upper - lower),
        "refined_minus_lower": mean_interval(refined - lower),
        "upper_minus_refined": mean_interval(upper - refined),
    }


def z_scores(a: Estimate, b: Estimate) -> np.ndarray:
    """Return the differences a - b in units of their standard errors, about N(0, 1), `(B,)`."""
    return (a.value - b.value) / np.hypot(a.se, b.se)


def coverage(rough: Estimate, fine: Estimate) -> float:
    """Return for which fraction of images `rough` and `fine` differ by at most 1.96 errors."""
    return float((np.abs(z_scores(rough, fine)) <= 1.96).mean())


def agreement(a: Estimate, b: Estimate) -> dict:
    """Compare the differences between two estimates of the same images with their errors."""
    z = z_scores(a, b)
    return {
        "share_within_2_se": float((np.abs(z) <= 2).mean()),
        "median_abs_in_se": float(np.median(np.abs(z))),
        "mc_se": standard_error_of_mean(a.se, b.se),
    }


def figure(amortised: Estimate, refined: Estimate) -> Figure:
    """Plot what 100 samples miss of each image against the k-hat of its weights."""
    figure = Figure(figsize=(8, 4.2))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    ok = amortised.trusted()
    gap = refined.value - amortised.value
    for chosen, colour, label in (
        (ok, COLOURS["posterior"], f"pass k-hat ({ok.mean():.0%})"),
        (~ok, COLOURS["guide"], f"fail ({(~ok).mean():.0%})"),
    ):
        ax.plot(
            amortised.khat[chosen], gap[chosen], ".", ms=4, alpha=0.6, color=colour, label=label
        )
    ax.axvline(khat_threshold(100), color="0.3", lw=0.8, ls="--")
    ax.axhline(0, color="0.3", lw=0.8)
    ax.set(
        xlabel="Pareto $\\hat k$ of the image's 100 weights",
        ylabel="refined minus 100-sample score, nats",
        title=f"100 samples miss {gap.mean():.1f} nats on average, and tens where k-hat is large",
    )
    ax.set_yscale("symlog", linthresh=1, linscale=0.4)  # linear to 1 nat, then logarithmic
    ax.yaxis.set_major_locator(FixedLocator([-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100]))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.margins(y=0.08)
    ax.legend(loc="upper left")
    return figure
