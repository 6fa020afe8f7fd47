"""Log-likelihood and its bounds."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_c.autoencoders import PAIRS, Vaes
from experiments.question_c.spread import COLOURS, over_seeds, over_trainings
from pyro_vae.analysis.plots import show_image
from pyro_vae.likelihood.intervals import mean_interval


def scores(vaes: Vaes, chosen: np.ndarray, labels: np.ndarray) -> dict:
    """ELBO, IWAE-100 and log p of the same test images: means, gaps, paired differences."""
    measures = {
        key: [
            {
                "elbo": vae.bounds.elbo[chosen],
                "iwae_100": vae.bounds.value[chosen],
                "log_p": vae.refined.value,
            }
            for vae in seeds
        ]
        for key, seeds in vaes.items()
    }
    metrics: dict = {}
    for key, seeds in vaes.items():
        means = [
            {name: float(value.mean()) for name, value in one.items()} for one in measures[key]
        ]
        for one in means:
            one["elbo_gap"] = one["log_p"] - one["elbo"]
            one["iwae_100_gap"] = one["log_p"] - one["iwae_100"]
        metrics[key] = over_seeds(means) | {
            "first": seeds[0].refined.summary() | {"pixels": "grey (surrogate score)"},
            "bounds_of_all_test_images": seeds[0].bounds.summary(),
            "share_trusted_of_seeds": [float(vae.refined.trusted().mean()) for vae in seeds],
        }
    names = ("elbo", "iwae_100", "log_p")
    metrics["ranking"] = {
        name: sorted(vaes, key=lambda key: -metrics[key][name]["mean"]) for name in names
    }
    metrics["pairs"] = {}
    for one, other in PAIRS:
        # image by image, averaged over the seeds
        by_name = {
            name: np.mean([run[name] for run in measures[one]], 0)
            - np.mean([run[name] for run in measures[other]], 0)
            for name in names
        }
        difference = by_name["log_p"]
        runs = [[run["log_p"] for run in measures[key]] for key in (one, other)]
        metrics["pairs"][f"{one} - {other}"] = {
            **{name: mean_interval(value) for name, value in by_name.items()},
            "log_p_over_trainings": over_trainings(*runs),
            # what judging by the bound alone would add to the difference
            **{
                f"{name}_minus_log_p": mean_interval(by_name[name] - difference)
                for name in names[:2]
            },
            "share_preferring_first": float((difference > 0).mean()),
            "share_where_elbo_disagrees": float(
                (np.sign(by_name["elbo"]) != np.sign(difference)).mean()
            ),
            "by_class": by_class(difference, runs, labels),
            "preferring_second": int((difference < 0).sum()),
        }
    return metrics


def by_class(difference: np.ndarray, runs: list[list[np.ndarray]], labels: np.ndarray) -> dict:
    """For each digit: `difference` over its images, and between the trainings of two contenders.

    `difference`, `(B,)`, is the mean over the trainings; `runs` has each training's log p, `(B,)`.
    """
    found = {}
    for digit in np.unique(labels):
        own = labels == digit
        found[str(digit)] = mean_interval(difference[own]) | {
            "over_trainings": over_trainings(*([log_p[own] for log_p in part] for part in runs)),
            "median": float(np.median(difference[own])),
            "preferring_second": int((difference[own] < 0).sum()),
        }
    return found


def preferred(vaes: Vaes, one: str, other: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the chosen images that most prefer `one` to `other`, then of the reverse; nats."""
    by_seed = [
        a.refined.value - b.refined.value for a, b in zip(vaes[one], vaes[other], strict=True)
    ]
    difference = np.mean(by_seed, 0)
    order = np.argsort(-difference)
    return np.concatenate([order[:count], order[-count:][::-1]]), difference


def scores_panel(ax: Axes, scores: dict, labels: dict[str, str]) -> None:
    """ELBO, IWAE-100 and refined log p(x), a dot for each training."""
    names = {"elbo": "ELBO", "iwae_100": "IWAE-100", "log_p": "log p(x),\nrefined"}
    for offset, key in zip((-0.22, 0, 0.22), labels, strict=True):
        for place, name in enumerate(names):
            seeds = scores[key][name]["seeds"]
            ax.plot([place + offset] * len(seeds), seeds, "o", ms=5, alpha=0.8, color=COLOURS[key])
    ax.set_xticks(range(3), names.values())
    ax.set(ylabel="nats per image", title="Two bounds and log p(x), grey pixels")


def classes_panel(ax: Axes, pairs: dict, labels: dict[str, str]) -> None:
    """How far d = 20 is above each of the others, digit by digit and over all."""
    for offset, other, colour in ((-0.14, "d4", "0.25"), (0.14, "example", "0.6")):
        sign = 1 if other == "d4" else -1
        found = pairs["d20 - d4" if other == "d4" else "example - d20"]
        digits = sorted(found["by_class"])
        rows = [
            found[name] if name == "log_p" else found["by_class"][name]
            for name in [*digits, "log_p"]
        ]
        means = sign * np.array([row["mean"] for row in rows])
        half = np.array([row["ci95"][1] - row["mean"] for row in rows])
        place = np.arange(len(rows)) + (np.arange(len(rows)) == len(digits)) * 0.5 + offset
        ax.errorbar(
            means,
            place,
            xerr=half,
            fmt="o",
            ms=4,
            color=colour,
            label=f"{labels['d20']} minus {labels[other]}",
        )
    ax.axvline(0, color="0.2", lw=0.9)
    ax.set_yticks([*range(len(digits)), len(digits) + 0.5], [*digits, "all"])
    ax.set(
        ylim=(len(digits) + 1.2, -2.6),  # the legend has the rows above 0
        xlabel="log p(x), nats per image (95%, paired)",
        ylabel="digit",
        title="By digit: what d = 20 gains",
    )
    ax.legend(fontsize=8.5, loc="upper right")


def preferences_figure(x: Tensor, rebuilt: dict[str, Tensor], difference: np.ndarray) -> Figure:
    """Images that gain most and least by 20 dimensions, over what each makes of them."""
    half = len(x) // 2
    figure = Figure(figsize=(1.05 * half + 1.6, 8.3))
    figure.set_layout_engine("constrained")
    parts = figure.subfigures(2, 1)
    titles = (
        "The images that gain most by 20 dimensions",
        "and those that prefer 4: nats that 20 dimensions add",
    )
    for part, title, some in zip(parts, titles, (slice(half), slice(half, None)), strict=True):
        grid = part.subplots(1 + len(rebuilt), half)
        for j, ax in enumerate(grid[0]):
            show_image(ax, x[some][j], f"{difference[some][j]:+.1f}".replace("-", "−"))
        for row, images in zip(grid[1:], rebuilt.values(), strict=True):
            for ax, image in zip(row, images[some], strict=True):
                show_image(ax, image)
        for row, label in zip(grid, ["image", *rebuilt], strict=True):
            row[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
        part.suptitle(title)
    return figure
