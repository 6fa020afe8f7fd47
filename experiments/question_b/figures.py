"""The figures of question (b), from what `experiments.question_b` has measured."""

from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from torch import Tensor

from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.psis import khat_threshold

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


def nats(value: float, se: float | None = None) -> str:
    """A score as a figure shows it; with its error to two decimals, since that may be small."""
    text = f"{value:.1f}" if se is None else f"{value:.2f} ± {se:.2f}"
    return text.replace("-", "−")


def gallery(
    images: Tensor,
    rows: dict[str, np.ndarray],
    amortised: Estimate,
    refined: dict[int, tuple[float, float]],
    title: str,
) -> Figure:
    """Rows of test images under their 100-sample score, over the refined one."""
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.22 * columns + 1.3, 1.62 * len(rows) + 0.75))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row_axes, (name, indices) in zip(axes, rows.items(), strict=True):
        for ax, i in zip(row_axes, indices, strict=True):
            show_image(ax, images[i], nats(amortised.value[i], amortised.se[i]))
            ax.set_xlabel(
                nats(*refined[int(i)]), fontsize=8.5, color=COLOURS["posterior"], labelpad=2
            )
        row_axes[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8, fontsize=9.5)
    figure.suptitle(title)
    return figure


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


def interventions_figure(strip: list[tuple[Tensor, float]], metrics: dict) -> Figure:
    """One image under each change (`strip`: images and scores), and the mean change of them all."""
    changes = metrics["changes"]
    figure = Figure(figsize=(12.6, 7.4))
    figure.set_layout_engine("constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 2.6])
    titles = ["as it is", *changes]
    for ax, (image, score), title in zip(above.subplots(1, len(strip)), strip, titles, strict=True):
        broken = title.replace(" by ", "\nby ").replace(" to the ", "\nto the ")
        show_image(ax, image, broken.replace(", ", ",\n"))
        ax.set_xlabel(nats(score), fontsize=9)
    above.suptitle("One test image under each change, with its score")
    ax = below.subplots()
    rows = np.arange(len(changes))[::-1]
    for offset, key, colour, label in (
        (0.24, "score", "0.2", "score"),
        (0.0, "from_the_floor", "#e6ab02", "part due to the entropy floor"),
        (-0.24, "from_the_excess", COLOURS["posterior"], "part due to the excess"),
    ):
        means = np.array([change[key]["mean"] for change in changes.values()])
        ends = np.array([change[key]["ci95"] for change in changes.values()])
        ax.barh(rows + offset, means, 0.22, color=colour, label=label)
        ax.errorbar(
            means, rows + offset, xerr=np.abs(ends.T - means), fmt="none", color="k", lw=0.9
        )
    ax.set_yticks(rows, changes)
    ax.axvline(0, color="0.2", lw=0.9)
    ax.set(
        xlabel="mean change, nats per image (95% intervals)",
        title=f"What each change does to the score of {metrics['images']} test images",
    )
    ax.legend(fontsize=9)
    return figure


def typical_figure(
    sets: dict[str, Tensor], scores: dict[str, np.ndarray], reference: np.ndarray
) -> Figure:
    """Sets of images by their median score, over the range of the test images' (`reference`)."""
    order = sorted(scores, key=lambda name: -np.median(scores[name]))
    figure = Figure(figsize=(11.5, 0.62 * len(order) + 1.3))
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 3.2])
    left.set(xlim=(0, 6), ylim=(len(order) - 0.5, -0.5))
    left.axis("off")
    for row, name in enumerate(order):
        left.text(0, row, f"{name} ({len(sets[name])})", va="center", fontsize=9.5)
        for column, image in enumerate(sets[name][:2]):
            ax = left.inset_axes(
                [4.2 + 0.92 * column, row - 0.45, 0.85, 0.9], transform=left.transData
            )
            show_image(ax, image)
        values = -scores[name]
        height = row + np.random.default_rng(0).uniform(-0.28, 0.28, len(values))
        colour = COLOURS["posterior"] if name == "test images" else COLOURS["guide"]
        if name.startswith("model") or name == "training images":
            colour = "0.45"
        big = 7 if len(values) == 1 else 3
        right.plot(values, height, ".", ms=big, alpha=0.6, color=colour, rasterized=True)
        right.plot([np.median(values)] * 2, [row - 0.38, row + 0.38], color="k", lw=1.6)
    low, high = np.quantile(-reference, [0.01, 0.99])
    right.axvspan(low, high, color=COLOURS["posterior"], alpha=0.1)
    right.set(xscale="log", ylim=(len(order) - 0.5, -0.5), xlabel="score, nats per image")
    ticks = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
    right.set_xticks(ticks, [f"−{tick:,}" for tick in ticks])
    right.minorticks_off()
    right.invert_xaxis()
    right.set_yticks([])
    right.set_title(
        "likelier to the right; black: medians; grey: MNIST or the model's own; shaded: 98% of the "
        "test images",
        fontsize=9.5,
    )
    figure.suptitle("Likely is not typical: sets of images under the same model")
    return figure


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
