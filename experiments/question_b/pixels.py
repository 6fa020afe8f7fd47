"""Does the ranking of images depend on the likelihood of their pixels?

Grey pixels under a Bernoulli likelihood give a surrogate score. Binarised pixels have a
probability, and the continuous Bernoulli gives grey pixels a density. The same generator scores the
same images under all three, so that a difference between the rankings is due to p(x | z) alone.
"""

from itertools import combinations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_b import SEED
from experiments.question_b.shared import refined_log_p, spearman
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.models import ContinuousBernoulli, Model
from pyro_vae.vae import Vae

COPIES = 3  # binarised ones of each image

NAMES = {
    "grey": "grey (surrogate)",
    "binarised": f"binarised (mean of {COPIES} copies)",
    "continuous": "continuous Bernoulli (density)",
}


def measure(
    vae: Vae, x: Tensor, grey: Estimate, features: dict[str, np.ndarray]
) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the metrics, and the scores of the images `x` under each likelihood.

    `grey` holds their scores under the model itself, and `features` their features.
    """
    rng = torch.Generator().manual_seed(SEED)
    binarised = [
        refined_log_p(vae, torch.bernoulli(x, generator=rng), f"binarised, copy {copy + 1}")
        for copy in range(COPIES)
    ]
    continuous = Vae(Model(vae.model.decoder, ContinuousBernoulli, vae.model.prior), vae.guide)
    estimates = {
        "grey": [grey],
        "binarised": binarised,
        "continuous": [refined_log_p(continuous, x, "continuous Bernoulli")],
    }
    scores = {
        name: np.mean([copy.value for copy in copies], axis=0) for name, copies in estimates.items()
    }
    metrics: dict = {"images": len(x), "copies": COPIES}
    for name, value in scores.items():
        metrics[name] = {
            "mean": float(value.mean()),
            "sd": float(value.std(ddof=1)),
            "share_trusted": float(np.mean([copy.trusted().mean() for copy in estimates[name]])),
            "spearman_with": {
                feature: spearman(column, value)
                for feature, column in features.items()
                if feature != "class"
            },
        }
    tenth = max(1, len(x) // 10)
    for (first, a), (second, b) in combinations(scores.items(), 2):
        metrics[f"{first} and {second}"] = {
            "spearman": spearman(a, b),
            "unlikeliest_tenth_shared": lowest_shared(a, b, tenth),
            "likeliest_tenth_shared": lowest_shared(-a, -b, tenth),
        }
    metrics["mean_of_binarised_minus_grey"] = mean_interval(scores["binarised"] - scores["grey"])
    return metrics, scores


def lowest_shared(a: np.ndarray, b: np.ndarray, count: int) -> float:
    """Return which fraction of the images with the `count` lowest `a` also has the lowest `b`."""
    return len({*np.argsort(a)[:count]} & {*np.argsort(b)[:count]}) / count


def figure(x: Tensor, scores: dict[str, np.ndarray], metrics: dict) -> Figure:
    """Draw the scores against those of grey pixels, and the first and last images under each."""
    figure = Figure(figsize=(9.6, 7))
    figure.set_layout_engine("constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.1])
    for ax, name in zip(above.subplots(1, 2), [*scores][1:], strict=True):
        ax.plot(scores["grey"], scores[name], ".", ms=4, alpha=0.6, color=COLOURS["posterior"])
        ax.set(
            xlabel=f"{NAMES['grey']}, nats",
            ylabel=f"{NAMES[name]},\nnats",
            title=f"rank correlation {metrics[f'grey and {name}']['spearman']:.3f}",
        )
    above.suptitle(f"{len(x)} test images under three likelihoods of the pixels, one generator")
    for axes, (name, score) in zip(below.subplots(3, 9), scores.items(), strict=True):
        by_rank = np.argsort(-score)
        axes[4].axis("off")
        for ax, i in zip([*axes[:4], *axes[5:]], [*by_rank[:4], *by_rank[-4:]], strict=True):
            show_image(ax, x[i], f"{score[i]:.0f}".replace("-", "−"))
        label = NAMES[name].replace(" (", "\n(")
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
    below.suptitle("The four likeliest and the four unlikeliest under each")
    return figure
