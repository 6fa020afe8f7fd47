"""Which features of an image explain its score?

Explained is the part of the variance over images that boosted trees predict on images held out
(`held_out_r2`). The entropy floor, minus the best score that any model can reach, depends on the
image alone. The excess over that floor is what this model loses, and is explained as well.
"""

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.question_b import SEED
from experiments.question_b.shared import spearman
from pyro_vae.analysis.explained import held_out_r2
from pyro_vae.analysis.features import FEATURES
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.data.dataset import random_positions

VISIBLE = (*FEATURES, "class")  # what can be seen on the image itself, and its label if it has one


def measure(features: dict[str, np.ndarray], median_ess: float, score: np.ndarray) -> dict:
    """Measure what the features of all test images explain of their scores, `(B,)`.

    `median_ess` is of the posterior means that some features are computed from.
    """
    held_out = np.zeros(len(score), bool)
    count = max(10, len(score) // 4)
    held_out[random_positions(score, count, SEED)] = True
    return {
        "images": len(score),
        "held_out": int(held_out.sum()),
        "posterior_mean_median_ess_of_100": median_ess,
        "score": explain(features, score, held_out, "score"),
        "excess": explain(features, -score - features["entropy floor"], held_out, "excess"),
    }


def explain(
    features: dict[str, np.ndarray], target: np.ndarray, held_out: np.ndarray, progress: str
) -> dict:
    """Return what each feature explains of `target` alone, with others, and beyond all others."""

    def r2(names: list[str]) -> dict:
        chosen = {name: features[name] for name in names}
        categorical = ("class",) if "class" in names else ()
        return held_out_r2(chosen, target, held_out, categorical, SEED)._asdict()

    alone = {name: r2([name]) for name in tqdm(features, desc=progress)}
    visible = [name for name in VISIBLE if name in features]
    joint = {
        "features of the image": r2(visible),
        "and nearest training image": r2([*visible, "nearest training image"]),
        "and the model's own": r2(list(features)),
    }
    without = {name: r2([other for other in visible if other != name]) for name in visible}
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
    """Draw what each feature explains of the score by itself.

    The reconstruction error is left out: it is the same misfit in another unit.
    """
    alone = {n: v for n, v in metrics["score"]["alone"].items() if n != "reconstruction error"}
    names = sorted(alone, key=lambda name: alone[name]["share"])
    shares = np.array([alone[name]["share"] for name in names])
    ends = np.array([[alone[name]["low"], alone[name]["high"]] for name in names]).T
    figure = Figure(figsize=(8, 4.6))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    ax.barh(names, shares, 0.65, color=COLOURS["posterior"])
    ax.errorbar(shares, names, xerr=np.abs(ends - shares), color="k", lw=1, fmt="none")
    ax.axvline(0, color="0.3", lw=0.8)
    ax.set(
        xlabel="variance of the score that it explains alone, held-out images (95% intervals)",
        title=f"What explains the score most: {names[-1]}, then {names[-2]}",
    )
    ax.xaxis.set_major_formatter("{x:.0%}")
    return figure
