"""The ranking of images under other likelihoods of the pixels."""

from itertools import combinations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_b.study import SEED, Vae, nats, spearman
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.models import ContinuousBernoulli, Model


def other_pixels(
    vae: Vae, x: Tensor, grey: Estimate, features: dict[str, np.ndarray], copies: int = 3
) -> tuple[Figure, dict]:
    """The ranking of images `x` under grey, binarised and continuous-Bernoulli pixels.

    One generator throughout: what changes is p(x | z) alone. `grey` are the scores of `x`.
    """
    rng = torch.Generator().manual_seed(SEED)
    binarised = [
        vae.refined(torch.bernoulli(x, generator=rng), f"binarised, copy {copy + 1}")
        for copy in range(copies)
    ]
    continuous_model = Model(vae.model.decoder, ContinuousBernoulli, vae.model.prior)
    continuous = vae.refined(x, "continuous Bernoulli", continuous_model)
    scores = {
        "grey": grey.value,
        "binarised": np.mean([found.value for found in binarised], axis=0),
        "continuous": continuous.value,
    }
    trusted = {
        "grey": grey.trusted().mean(),
        "binarised": np.mean([found.trusted().mean() for found in binarised]),
        "continuous": continuous.trusted().mean(),
    }
    names = {
        "grey": "grey (surrogate)",
        "binarised": f"binarised (mean of {copies} copies)",
        "continuous": "continuous Bernoulli (density)",
    }
    tenth = max(1, len(x) // 10)
    metrics: dict = {"images": len(x), "copies": copies}
    for name, value in scores.items():
        metrics[name] = {
            "mean": float(value.mean()),
            "sd": float(value.std(ddof=1)),
            "share_trusted": float(trusted[name]),
            "spearman_with": {
                feature: spearman(column, value)
                for feature, column in features.items()
                if feature != "class"
            },
        }
    for first, second in combinations(scores, 2):
        metrics[f"{first} and {second}"] = {
            "spearman": spearman(scores[first], scores[second]),
            "unlikeliest_tenth_shared": share_shared(scores[first], scores[second], tenth),
            "likeliest_tenth_shared": share_shared(-scores[first], -scores[second], tenth),
        }
    metrics["mean_of_binarised_minus_grey"] = mean_interval(scores["binarised"] - scores["grey"])

    return pixels_figure(x, scores, names, metrics), metrics


def share_shared(first: np.ndarray, second: np.ndarray, count: int) -> float:
    """Of the images with the `count` lowest values of each, the share that both have."""
    lowest = set(np.argsort(first)[:count]) & set(np.argsort(second)[:count])
    return len(lowest) / count


def pixels_figure(
    x: Tensor, scores: dict[str, np.ndarray], names: dict[str, str], metrics: dict
) -> Figure:
    """Scores under each pair of likelihoods, and the first and last images under each."""
    figure = Figure(figsize=(12.6, 8.2))
    figure.set_layout_engine("constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.02])
    for ax, (first, second) in zip(above.subplots(1, 3), combinations(scores, 2), strict=True):
        ax.plot(scores[first], scores[second], ".", ms=4, alpha=0.6, color=COLOURS["posterior"])
        both = metrics[f"{first} and {second}"]
        ax.set(
            xlabel=f"{names[first]}, nats",
            ylabel=f"{names[second]}, nats",
            title=f"rank correlation {both['spearman']:.2f}; of the unlikeliest tenth\n"
            f"{both['unlikeliest_tenth_shared']:.0%} shared, "
            f"of the likeliest {both['likeliest_tenth_shared']:.0%}",
        )
    above.suptitle(f"{len(x)} test images under three likelihoods of the pixels, one generator")
    grid = below.subplots(3, 13)
    for row, (name, score) in zip(grid, scores.items(), strict=True):
        by_rank = np.argsort(-score)
        row[6].axis("off")
        for ax, i in zip([*row[:6], *row[7:]], [*by_rank[:6], *by_rank[-6:]], strict=True):
            show_image(ax, x[i], nats(score[i]))
        row[0].set_ylabel(
            names[name].replace(" (", "\n("), rotation=0, ha="right", va="center", labelpad=8
        )
    below.suptitle("The six likeliest and the six unlikeliest under each")
    return figure
