"""Which features explain the score?"""

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.question_b.study import SEED, Vae, spearman
from pyro_vae.analysis.explained import held_out_r2
from pyro_vae.analysis.features import FEATURES, nearest_distance
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.analysis.sampling import decode, posterior_mean
from pyro_vae.data import Dataset
from pyro_vae.likelihood.estimate import Estimate

# What the numbers of a feature are; one that is not here has no unit.
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


def explain(
    vae: Vae, data: Dataset, amortised: Estimate
) -> tuple[dict[str, Figure], dict, dict[str, np.ndarray]]:
    """Explained variance of the score and of its excess over the floor, on held-out images."""
    x, labels = data.test_images, data.test_labels.numpy()
    features = {name: function(x) for name, function in tqdm(FEATURES.items(), desc="features")}
    features["class"] = labels.astype(float)
    features["nearest training image"] = nearest_distance(x, data.train_images)
    mean, ess = posterior_mean(vae.model, vae.guide, x.to(vae.device), seed=SEED)
    features["latent's distance from 0"] = mean.norm(dim=1).double().cpu().numpy()
    rebuilt = torch.cat([decode(vae.model, z) for z in mean.split(500)]).cpu()
    features["reconstruction error"] = (x - rebuilt).square().sum((1, 2, 3)).double().numpy()

    targets = {"score": amortised.value, "excess": -amortised.value - features["entropy floor"]}
    held_out = np.zeros(len(x), bool)
    held_out[np.random.default_rng(SEED).permutation(len(x))[: len(x) // 4]] = True
    drawn = [*FEATURES, "class"]  # what can be seen on the image itself
    groups = {
        "features of the image": drawn,
        "and nearest training image": [*drawn, "nearest training image"],
        "and the model's own": list(features),
    }

    def share(names: list[str], target: np.ndarray) -> dict:
        chosen = {name: features[name] for name in names}
        kinds = ("class",) if "class" in names else ()
        return held_out_r2(chosen, target, held_out, kinds, SEED)._asdict()

    metrics: dict = {
        "images": len(x),
        "held_out": int(held_out.sum()),
        "posterior_mean_median_ess_of_100": float(ess.median()),
    }
    for target_name, target in targets.items():
        alone = {name: share([name], target) for name in tqdm(features, desc=target_name)}
        joint = {name: share(names, target) for name, names in groups.items()}
        without = {
            name: share([other for other in drawn if other != name], target)["share"]
            for name in drawn
        }
        whole = joint["features of the image"]["share"]
        metrics[target_name] = {
            "alone": alone,
            "joint": joint,
            "lost_without": {name: whole - rest for name, rest in without.items()},
            "spearman": {
                name: spearman(value, target) for name, value in features.items() if name != "class"
            },
        }
    figures = {
        "explained": explained_figure(metrics),
        "features": feature_figure(features, amortised.value, labels),
    }
    return figures, metrics, features


def explained_figure(metrics: dict) -> Figure:
    """Explained variance of each feature alone, of several, and what is lost without each."""
    figure = Figure(figsize=(12.5, 5.6))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    alone = metrics["score"]["alone"]
    names = sorted(alone, key=lambda name: alone[name]["share"])
    rows = [*metrics["score"]["joint"]][::-1] + names
    place = {name: row + (0.6 if row > 2 else 0) for row, name in enumerate(rows)}
    titles = {
        "score": "the score",
        "excess": "the excess: how far it stays below the best any model can do",
    }
    for ax, (target, title) in zip(axes, titles.items(), strict=True):
        for kind, colour in (("joint", "0.35"), ("alone", COLOURS["posterior"])):
            for name, value in metrics[target][kind].items():
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
    axes[1].plot(
        [],
        [],
        "D",
        color=COLOURS["guide"],
        label="lost when it alone is left out of the features of the image",
    )
    figure.legend(loc="outside lower left", ncols=3, fontsize=9)
    figure.suptitle("How much of the score each feature explains (lines: 95% intervals)")
    return figure


def feature_figure(
    features: dict[str, np.ndarray], score: np.ndarray, labels: np.ndarray
) -> Figure:
    """The score against each feature: all images, and medians.

    The medians are of each value where a feature has but a few, else of ten equal groups by it.
    """
    names = [name for name in features if name != "class"]
    figure = Figure(figsize=(13, 8.4))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(3, 4, sharey=True)
    low, high = np.quantile(score, [0.001, 0.999])
    for ax, name in zip(axes.flat, names, strict=True):
        value = features[name]
        jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(value))
        spread = value + jitter * (len(np.unique(value)) < 40)  # whole numbers lie on one another
        ax.scatter(spread, score, s=1.5, c=labels, cmap="tab10", alpha=0.5, rasterized=True)
        if len(np.unique(value)) < 40:
            group = value
        else:
            edges = np.unique(np.quantile(value, np.linspace(0, 1, 11)))
            group = np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(edges) - 2)
        filled = [g for g in np.unique(group) if (group == g).sum() >= 20]
        ax.plot(
            [np.median(value[group == g]) for g in filled],
            [np.median(score[group == g]) for g in filled],
            "ko-",
            ms=3.5,
            lw=1.4,
        )
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
