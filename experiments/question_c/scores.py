"""Which autoencoder gives test images the highest log p(x), and would its bounds say the same?

A bound is lower than log p(x) by a gap that differs between models: the ELBO and IWAE-100 of a
model with a poor encoder understate it. So models are ranked by the refined guide, and the two
bounds stand beside it. The differences are paired image by image, and given class by class.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_c.autoencoders import CONTENDERS, PAIRS, Trainings
from experiments.question_c.spread import COLOURS, over_seeds, over_trainings
from pyro_vae.analysis.plots import short_name, show_image
from pyro_vae.analysis.sampling import decode, posterior_moments
from pyro_vae.likelihood.intervals import mean_interval

NAMES = ("elbo", "iwae_100", "log_p")
Scores = dict[str, np.ndarray]  # of one training, by these names: nats of each image, `(B,)`


def measure(trained: Trainings, chosen: np.ndarray, labels: np.ndarray) -> dict:
    """Return means, gaps, rankings and paired differences over the `chosen` test images."""
    scores: dict[str, list[Scores]] = {
        key: [
            {
                "elbo": run.bounds.elbo[chosen],
                "iwae_100": run.bounds.value[chosen],
                "log_p": run.refined.value,
            }
            for run in runs
        ]
        for key, runs in trained.items()
    }
    metrics: dict = {
        key: over_seeds([means_and_gaps(run) for run in scores[key]])
        | {
            "first": runs[0].refined.summary() | {"pixels": "grey (surrogate score)"},
            "bounds_of_all_test_images": runs[0].bounds.summary(),
            "share_trusted_of_seeds": [float(run.refined.trusted().mean()) for run in runs],
        }
        for key, runs in trained.items()
    }
    metrics["ranking"] = {
        name: sorted(trained, key=lambda key: -metrics[key][name]["mean"]) for name in NAMES
    }
    metrics["pairs"] = {f"{a} - {b}": compare(scores[a], scores[b], labels) for a, b in PAIRS}
    return metrics


def means_and_gaps(scores: Scores) -> dict[str, float]:
    """Return the means of one training over the images, and how far each bound is from log p."""
    means = {name: float(value.mean()) for name, value in scores.items()}
    gaps = {f"{name}_gap": means["log_p"] - means[name] for name in ("elbo", "iwae_100")}
    return means | gaps


def compare(a: list[Scores], b: list[Scores], labels: np.ndarray) -> dict:
    """Compare two contenders: image by image, of the means over trainings, and over trainings."""
    differences = {
        name: np.mean([run[name] for run in a], 0) - np.mean([run[name] for run in b], 0)
        for name in NAMES
    }
    difference = differences["log_p"]
    log_p = [[run["log_p"] for run in runs] for runs in (a, b)]
    elbo_disagrees = np.sign(differences["elbo"]) != np.sign(difference)
    return {
        **{name: mean_interval(value) for name, value in differences.items()},
        "log_p_over_trainings": over_trainings(*log_p),
        # what judging by the bound alone would add to the difference
        **{
            f"{name}_minus_log_p": mean_interval(differences[name] - difference)
            for name in ("elbo", "iwae_100")
        },
        "share_preferring_first": float((difference > 0).mean()),
        "share_where_elbo_disagrees": float(elbo_disagrees.mean()),
        "by_class": by_class(difference, log_p, labels),
        "preferring_second": int((difference < 0).sum()),
    }


def by_class(difference: np.ndarray, log_p: list[list[np.ndarray]], labels: np.ndarray) -> dict:
    """Compare two contenders on the images of each class, by the names of the classes in `labels`.

    `difference`, `(B,)`, is of the means over trainings; `log_p` has that of each training, `(B,)`,
    of both contenders.
    """
    metrics = {}
    for name in np.unique(labels):
        of_class = labels == name
        metrics[str(name)] = mean_interval(difference[of_class]) | {
            "over_trainings": over_trainings(*([run[of_class] for run in runs] for runs in log_p)),
            "median": float(np.median(difference[of_class])),
            "preferring_second": int((difference[of_class] < 0).sum()),
        }
    return metrics


def preferred(trained: Trainings, a: str, b: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which chosen images prefer `a` to `b` most, then which `b` to `a`; and by how much.

    The indices are `(2 count,)`; the differences of all images, `(B,)`, are in nats.
    """
    by_seed = [
        first.refined.value - second.refined.value
        for first, second in zip(trained[a], trained[b], strict=True)
    ]
    difference = np.mean(by_seed, 0)
    order = np.argsort(-difference)
    return np.concatenate([order[:count], order[-count:][::-1]]), difference


def figure(metrics: dict) -> Figure:
    """Draw the scores of each training, and what d = 20 gains of each class over d = 4."""
    figure = Figure(figsize=(9.5, 4.2))
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    names = {"elbo": "ELBO", "iwae_100": "IWAE-100", "log_p": "log p(x)"}
    for offset, (key, contender) in zip((-0.22, 0, 0.22), CONTENDERS.items(), strict=True):
        for place, name in enumerate(names):
            seeds = metrics[key][name]["seeds"]
            label = contender.label if place == 0 else None
            left.plot(
                [place + offset] * len(seeds), seeds, "o", ms=5, alpha=0.8, color=COLOURS[key],
                label=label,
            )  # fmt: skip
    left.set_xticks(range(3), names.values())
    left.set(ylabel="nats per image, each training", xlim=(-0.5, 2.5))
    figure.legend(loc="outside lower left", ncols=3)
    pair = metrics["pairs"]["d20 - d4"]
    _draw_by_class(right, pair["by_class"], pair["log_p"])
    least = min(pair["by_class"], key=lambda name: pair["by_class"][name]["mean"])
    gain = pair["log_p"]["mean"]
    figure.suptitle(f"d = 20 gains {gain:.0f} nats, and least for the class {short_name(least)}")
    return figure


def by_class_figure(by_class: dict[str, dict], of_all: dict, title: str) -> Figure:
    """Draw what d = 20 gains of each class, and of all images: intervals by their names."""
    figure = Figure(figsize=(6.5, 4))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    _draw_by_class(ax, by_class, of_all)
    ax.set_title(title)
    return figure


def _draw_by_class(ax: Axes, by_class: dict[str, dict], of_all: dict) -> None:
    classes = sorted(by_class)
    intervals = [*(by_class[name] for name in classes), of_all]
    means = np.array([interval["mean"] for interval in intervals])
    half = np.array([interval["ci95"][1] for interval in intervals]) - means
    places = [*range(len(classes)), len(classes) + 0.5]
    ax.errorbar(means, places, xerr=half, fmt="o", ms=4, color=COLOURS["d20"])
    ax.axvline(0, color="0.2", lw=0.9)
    ax.set_yticks(places, [*map(short_name, classes), "all"])
    ax.invert_yaxis()
    ax.set(xlabel="log p(x) that d = 20 gains over d = 4, nats (95%)", ylabel="class")


def preferences_figure(trained: Trainings, x: Tensor) -> Figure:
    """Draw the images of `x` that gain most and least by 20 dimensions, and reconstructions."""
    images, difference = preferred(trained, "d20", "d4", 6)
    rows = [("image", x[images])]
    for key in ("d4", "d20"):
        vae = trained[key][0].vae
        z, _ = posterior_moments(vae.guide, x[images])
        rows.append((CONTENDERS[key].label, decode(vae.model, z)))
    half = len(images) // 2
    figure = Figure(figsize=(1.15 * half + 1.6, 8.3))
    figure.set_layout_engine("constrained")
    titles = (
        "The images that gain most by 20 dimensions",
        "and those that prefer 4: nats that 20 dimensions add",
    )
    for part, title, some in zip(
        figure.subfigures(2, 1), titles, (slice(half), slice(half, None)), strict=True
    ):
        grid = part.subplots(len(rows), half)
        nats = [f"{value:+.1f}".replace("-", "−") for value in difference[images[some]]]
        for axes, (label, row) in zip(grid, rows, strict=True):
            above = nats if label == "image" else [""] * half
            for ax, image, text in zip(axes, row[some], above, strict=True):
                show_image(ax, image, text)
            axes[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
        part.suptitle(title)
    return figure
