"""Which features of an image explain its score?

Explained is the part of the variance over images that boosted trees predict on images held out
(`held_out_r2`). The entropy floor, minus the best score that any model can reach, depends on the
image alone. The excess over that floor is what this model loses, and is explained as well.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.question_b.scores import SEED, spearman
from pyro_vae.analysis.explained import held_out_r2
from pyro_vae.analysis.features import FEATURES, nearest_distance
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.analysis.sampling import posterior_mean
from pyro_vae.data import Dataset
from pyro_vae.vae import Vae

VISIBLE = [*FEATURES, "class"]  # what can be seen on the image itself

# A feature that is not here has no unit.
UNITS = {
    "ink": "pixels' worth of white",
    "entropy floor": "nats",
    "stroke width": "pixels",
    "slant": "columns to the right for each row up",
    "height": "pixels",
    "width": "pixels",
    "off centre": "pixels",
    "nearest training image": "distance of grey levels",
    "reconstruction error": "squared grey levels",
}


def measure(vae: Vae, data: Dataset, score: np.ndarray) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the metrics, and the features of all test images; their scores are `score`, `(B,)`."""
    features, median_ess = all_features(vae, data)
    held_out = np.zeros(len(score), bool)
    held_out[np.random.default_rng(SEED).permutation(len(score))[: len(score) // 4]] = True
    metrics = {
        "images": len(score),
        "held_out": int(held_out.sum()),
        "posterior_mean_median_ess_of_100": median_ess,
        "score": explain(features, score, held_out, "score"),
        "excess": explain(features, -score - features["entropy floor"], held_out, "excess"),
    }
    return metrics, features


def all_features(vae: Vae, data: Dataset) -> tuple[dict[str, np.ndarray], float]:
    """Return each feature of the test images, `(B,)`, and the ESS behind the posterior mean.

    The ESS is the median over the images of the effective sample size of 100 weighted samples.
    """
    x = data.test_images
    features = {name: function(x) for name, function in tqdm(FEATURES.items(), desc="features")}
    features["class"] = data.test_labels.numpy().astype(float)
    features["nearest training image"] = nearest_distance(x, data.train_images)
    mean, ess = posterior_mean(vae.model, vae.guide, *vae.here(x), seed=SEED)
    features["latent's distance from 0"] = mean.norm(dim=1).double().cpu().numpy()
    rebuilt = torch.cat([vae.decode(z) for z in mean.split(500)]).cpu()
    features["reconstruction error"] = (x - rebuilt).square().sum((1, 2, 3)).double().numpy()
    return features, float(ess.median())


def explain(
    features: dict[str, np.ndarray], target: np.ndarray, held_out: np.ndarray, progress: str
) -> dict:
    """Return what each feature explains of `target` alone, with others, and beyond all others."""

    def r2(names: list[str]) -> dict:
        chosen = {name: features[name] for name in names}
        categorical = ("class",) if "class" in names else ()
        return held_out_r2(chosen, target, held_out, categorical, SEED)._asdict()

    alone = {name: r2([name]) for name in tqdm(features, desc=progress)}
    joint = {
        "features of the image": r2(VISIBLE),
        "and nearest training image": r2([*VISIBLE, "nearest training image"]),
        "and the model's own": r2(list(features)),
    }
    without = {name: r2([other for other in VISIBLE if other != name]) for name in VISIBLE}
    whole = joint["features of the image"]["share"]
    return {
        "alone": alone,
        "joint": joint,
        "lost_without": {name: whole - rest["share"] for name, rest in without.items()},
        "spearman": {
            name: spearman(value, target) for name, value in features.items() if name != "class"
        },
    }


def figure(metrics: dict) -> Figure:
    """Draw what each feature explains alone, what several do, and what is lost without each."""
    figure = Figure(figsize=(12.5, 5.6))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    alone, joint = metrics["score"]["alone"], metrics["score"]["joint"]
    names = [*reversed(joint), *sorted(alone, key=lambda name: alone[name]["share"])]
    place = {name: row + (0.6 if row > 2 else 0) for row, name in enumerate(names)}
    titles = {
        "score": "the score",
        "excess": "the excess: how far it stays below the best any model can do",
    }
    for ax, (target, title) in zip(axes, titles.items(), strict=True):
        for group, colour in (("joint", "0.35"), ("alone", COLOURS["posterior"])):
            for name, value in metrics[target][group].items():
                error = [[value["share"] - value["low"]], [value["high"] - value["share"]]]
                ax.barh(place[name], value["share"], 0.62, color=colour)
                ax.errorbar(value["share"], place[name], xerr=error, color="k", lw=1, fmt="none")
        for name, lost in metrics[target]["lost_without"].items():
            ax.plot(lost, place[name], "D", ms=4.5, color=COLOURS["guide"], mec="w", mew=0.6)
        ax.set(xlabel="explained variance, held-out images", title=title, xlim=(-0.09, 1.02))
        ax.axvline(0, color="0.3", lw=0.8)
    axes[0].set_yticks(list(place.values()), list(place))
    axes[1].barh([np.nan], [np.nan], color=COLOURS["posterior"], label="the feature alone")
    axes[1].barh([np.nan], [np.nan], color="0.35", label="several together")
    lost_label = "lost when it alone is left out of the features of the image"
    axes[1].plot([], [], "D", color=COLOURS["guide"], label=lost_label)
    figure.legend(loc="outside lower left", ncols=3, fontsize=9)
    figure.suptitle("How much of the score each feature explains (lines: 95% intervals)")
    return figure


def features_figure(features: dict[str, np.ndarray], score: np.ndarray) -> Figure:
    """Draw the score against each feature: all images, and medians.

    A feature with few values has a median at each of them, another in ten equal groups.
    """
    names = [name for name in features if name != "class"]
    figure = Figure(figsize=(13, 8.4))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(3, 4, sharey=True)
    low, high = np.quantile(score, [0.001, 0.999])
    for ax, name in zip(axes.flat, names, strict=True):
        value = features[name]
        discrete = len(np.unique(value)) < 40
        jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(value))
        spread = value + jitter * discrete  # or the points would lie on one another
        ax.scatter(
            spread, score, s=1.5, c=features["class"], cmap="tab10", alpha=0.5, rasterized=True
        )
        if discrete:
            group = value
        else:
            edges = np.unique(np.quantile(value, np.linspace(0, 1, 11)))
            group = np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(edges) - 2)
        filled = [g for g in np.unique(group) if (group == g).sum() >= 20]
        medians = [[np.median(v[group == g]) for g in filled] for v in (value, score)]
        ax.plot(*medians, "ko-", ms=3.5, lw=1.4)
        unit = f", {UNITS[name]}" if name in UNITS else ""
        ax.set(xlabel=name + unit, ylim=(low, high))
        ax.set_xlim(*np.quantile(spread, [0.0005, 0.9995]))
    for ax in axes[:, 0]:
        ax.set_ylabel("score, nats")
    dots = [
        figure.axes[0].scatter([], [], s=25, color=f"C{digit}", label=str(digit))
        for digit in range(10)
    ]
    figure.legend(handles=dots, loc="outside lower left", ncols=10, title="digit")
    figure.suptitle(
        "The score against each feature, but for the extreme 0.1%; black: medians of ten equal "
        "groups, or of each value"
    )
    return figure
