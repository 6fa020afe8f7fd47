"""The figures of question (c), from what `__main__` has measured."""

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pyro_vae.analysis.plots import show_image

COLOURS = {"d4": "#d95f02", "d20": "#1b6ca8", "example": "#4d9221"}
REAL = "0.35"


def overview_figure(metrics: dict, labels: dict[str, str]) -> Figure:
    """One page: every comparison of the contenders, each with its spread over training seeds."""
    figure = Figure(figsize=(16.5, 8.6))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(2, 4)
    scores_panel(axes[0, 0], metrics["scores"], labels)
    classes_panel(axes[0, 1], metrics["scores"]["pairs"], labels)
    rate_distortion_panel(axes[0, 2], metrics["rate_distortion"], labels)
    overfitting_panel(axes[0, 3], metrics["overfitting"], labels)
    noise_panel(axes[1, 0], metrics["robustness"]["noise"]["Gaussian noise"], labels)
    interpolation_panel(axes[1, 1], metrics["robustness"]["interpolation"], labels)
    samples_panel(axes[1, 2], metrics["samples"], labels)
    usefulness_panel(axes[1, 3], metrics["usefulness"], labels)
    handles = [
        axes[0, 0].plot([], [], "s", ms=9, color=COLOURS[key], label=label)[0]
        for key, label in labels.items()
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=11)
    seeds = len(metrics["scores"]["d4"]["log_p"]["seeds"])
    trainings = f"{seeds} training{'s' * (seeds > 1)} of each"
    figure.suptitle(
        f"4 against 20 latent dimensions, and PyTorch's example: {trainings} "
        "(dots, or ± 1 standard deviation), held-out test images"
    )
    return figure


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


def rate_distortion_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """KL against reconstruction error as beta moves; a large dot at beta = 1."""
    one = found["beta"].index(1.0)
    for key in labels:
        rate, distortion = found[key]["rate"], found[key]["distortion"]
        ax.plot(rate, distortion, "-", lw=1.5, color=COLOURS[key])
        ax.plot(rate, distortion, "o", ms=3, color=COLOURS[key])
        ax.plot(rate[one], distortion[one], "o", ms=8, color=COLOURS[key])
        guide = found[key]["guide_beside_curve"]
        points = zip(guide["rate"]["seeds"], guide["distortion"]["seeds"], strict=True)
        for training, point in enumerate(points):
            alpha = 1 if training == 0 else 0.35  # the curve is the first's
            ax.plot(*point, "x", ms=7, mew=1.8, color=COLOURS[key], alpha=alpha)
    ax.plot([], [], "-", color="0.4", label="the generator's curve")
    ax.plot([], [], "o", ms=8, color="0.4", label="its posterior (slope −1)")
    ax.plot([], [], "x", ms=7, mew=1.8, color="0.4", label="its guide (faint: other trainings)")
    ax.set(
        xlabel="rate: KL(q || prior), nats",
        ylabel="distortion: −E log p(x|z), nats",
        title=f"Rate and distortion, {found['images_of_curves']} images\n(curves: first trainings)",
    )
    ax.legend(fontsize=8.5)


def overfitting_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """Training images minus test images, the share of the generator and that of the encoder."""
    what = {
        "above_floor": "generator: log p(x)\nminus the best score\nof its grey levels",
        "elbo_gap": "encoder:\nlog p(x) − ELBO",
    }
    for offset, key in zip((-0.25, 0, 0.25), labels, strict=True):
        rows = [found[key][name]["train_minus_test"] for name in what]
        means = np.array([row["mean"] for row in rows])
        half = np.array([row["ci95"][1] - row["mean"] for row in rows])
        ax.bar(np.arange(2) + offset, means, 0.22, color=COLOURS[key])
        ax.errorbar(np.arange(2) + offset, means, yerr=half, fmt="none", color="k", lw=1)
    ax.axhline(0, color="0.2", lw=0.9)
    ax.set_xticks(range(2), what.values())
    ax.set(
        ylabel="training minus test images, nats (95%)",
        title="Overfitting of generator and of encoder",
    )


def seeds_curve(ax: Axes, x: list[float], found: dict, colour: str) -> None:
    """The mean over seeds, and one standard deviation each way."""
    mean, sd = np.array(found["mean"]), np.nan_to_num(found["sd"])
    ax.plot(x, mean, "o-", ms=4, color=colour)
    ax.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.2)


def seeds_bar(ax: Axes, place: float, seeds: np.ndarray | list[float], colour: str) -> None:
    """The mean over seeds as a bar, and each as a dot."""
    ax.bar(place, np.mean(seeds), 0.2, color=colour, alpha=0.85)
    ax.plot([place] * len(seeds), seeds, "ko", ms=3)


def noise_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """Share of noisy images read rightly, as they are and after each autoencoder."""
    ax.plot(
        found["level"], found["no autoencoder"], "--", color=REAL, label="the noisy image itself"
    )
    for key in labels:
        seeds_curve(ax, found["level"], found[key], COLOURS[key])
    ax.set(
        xlabel="level of Gaussian noise",
        ylim=(0, 1.02),
        ylabel="read as the true digit",
        title="Reconstructions of noisy images",
    )
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(fontsize=8.5)


def interpolation_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """Share read as a third digit on the way between two."""
    t = found["t"]
    mixed = found["mix of the pixels"]["third_digit"]
    ax.plot(t, mixed, "--", color=REAL, label="mix of the pixels")
    for key in labels:
        seeds_curve(ax, t, found[key]["third_digit"], COLOURS[key])
    ax.set(
        xlabel="t, from one image to another digit's",
        ylabel="read as neither of the two digits",
        title=f"Interpolation, {found['pairs']} pairs",
    )
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(fontsize=8.5, loc="upper left")


def samples_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """Frechet distance to real images, of samples and of reconstructions."""
    kinds = {"prior": "samples\nfrom the prior", "reconstructions": "reconstructions"}
    for offset, key in zip((-0.22, 0, 0.22), labels, strict=True):
        for place, kind in enumerate(kinds):
            seeds = found[key][kind]["frechet"]["seeds"]
            ax.plot([place + offset] * len(seeds), seeds, "o", ms=6, alpha=0.8, color=COLOURS[key])
    ax.axhline(found["training images"]["frechet"], color=REAL, ls="--", label="training images")
    ax.set_xticks(range(2), kinds.values())
    ax.set(
        yscale="log",
        ylim=(0.5, 3000),
        xlim=(-0.6, 1.6),
        ylabel="Fréchet distance (features of the classifier)",
        title=f"Distance from {found['images']:,} test images",
    )
    ax.legend(fontsize=8.5)


def usefulness_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """Errors of readers of the label that see the latents alone, or the pixels."""
    kinds = {"neighbours": "10 nearest\nneighbours", "linear": "logistic\nregression"}
    for offset, key in zip((-0.22, 0, 0.22), labels, strict=True):
        for place, kind in enumerate(kinds):
            seeds = np.array(found[key][kind]["seeds"])
            seeds_bar(ax, place + offset, 1 - seeds, COLOURS[key])
    pixels = [1 - found["pixels"][kind] for kind in kinds]
    ends = np.array([-0.36, 0.36])
    ax.hlines(pixels, *(np.arange(2) + ends[:, None]), color=REAL, ls="--", label="from the pixels")
    ax.set_xticks(range(2), kinds.values())
    ax.set(ylabel="test images misread", title="What z knows of the digit")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(fontsize=8.5)


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


def units_figure(drawn: dict[str, Tensor], units: dict, labels: dict[str, str]) -> Figure:
    """What the most used dimensions of d = 4 and d = 20 draw, and how much of each is used."""
    few, many = (len(drawn[key]) for key in ("d4", "d20"))
    figure = Figure(figsize=(13.5, 0.66 * many + 1.2))
    figure.set_layout_engine("constrained")
    left, right = figure.subfigures(1, 2)
    above, below = left.subfigures(2, 1, height_ratios=[few + 0.6, max(many - few, 4)])
    for part, (key, rows) in zip((above, right), drawn.items(), strict=True):
        for i, axes in enumerate(part.subplots(*rows.shape[:2], squeeze=False)):
            for j, ax in enumerate(axes):
                show_image(ax, rows[i, j], f"{-3 + 0.75 * j:g}".replace("-", "−") if i == 0 else "")
            axes[0].set_ylabel(f"{i + 1}", rotation=0, ha="right", va="center", labelpad=6)
        part.suptitle(
            f"{labels[key]}, first training: one unit (rows, the most used first) at each value",
            fontsize=11.5,
        )
    says, changes = below.subplots(2, 1, sharex=True)
    for key, label in labels.items():
        active = units[key]["active"]["mean"]
        ranked_curve(says, units[key]["kl"], COLOURS[key], f"{label}: {active:.3g} active")
        ranked_curve(changes, units[key]["changes_digit"], COLOURS[key], label)
    says.set(ylabel="KL, nats", title="How much each unit says (dots: trainings)")
    says.legend(fontsize=9)
    changes.set(
        xlabel="unit, the most telling (above), the most changing (below) first",
        ylabel="images",
        title="Read as another digit when the unit moves by 2",
    )
    changes.xaxis.get_major_locator().set_params(integer=True)
    changes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def ranked_curve(ax: Axes, found: dict, colour: str, label: str) -> None:
    """Values of each unit in falling order, one dot for each training, and their mean."""
    values = -np.sort(-np.array(found["seeds"])).T  # (d, seeds)
    rank = np.arange(1, len(values) + 1)
    ax.plot(rank, values, ".", ms=4, color=colour, alpha=0.6)
    ax.plot(rank, values.mean(1), "-", color=colour, label=label)
    ax.set_ylim(0, None)


def samples_figure(
    shown: dict[str, tuple[Tensor, np.ndarray]], found: dict, labels: dict[str, str]
) -> Figure:
    """Draws from the prior under the digit that the classifier reads, and how sure it is."""
    figure = Figure(figsize=(14, 9.6))
    figure.set_layout_engine("constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[6.9, 2.7])
    above.suptitle("Samples of the first trainings; shares, precision and recall: means of all")
    parts = above.subfigures(1, len(shown))
    for part, (key, (images, p)) in zip(parts, shown.items(), strict=True):
        for ax, image, row in zip(part.subplots(6, 4).flat, images, p, strict=True):
            show_image(ax, image, f"{row.argmax()}: {row.max():.0%}")
        prior = found[key]["prior"]
        part.suptitle(
            f"{labels[key]}: {prior['share_confident']['mean']:.0%} read with > 95%\n"
            f"precision {prior['precision']['mean']:.2f}, recall {prior['recall']['mean']:.2f}",
            fontsize=11,
        )
    ax = below.subplots()
    for offset, (key, label) in zip((-0.25, 0, 0.25), labels.items(), strict=True):
        share = found[key]["prior"]["class_share"]
        ax.bar(np.arange(10) + offset, share["mean"], 0.23, color=COLOURS[key], label=label)
        for seed in share["seeds"]:
            ax.plot(np.arange(10) + offset, seed, "k.", ms=3)
    real = found["training images"]["class_share"]
    ax.hlines(real, np.arange(10) - 0.4, np.arange(10) + 0.4, color=REAL, ls="--", label="real")
    ax.set(
        xticks=range(10),
        xlabel="digit that the classifier reads",
        ylabel="share of the samples",
        title="As which digits samples are read (bars: mean of the trainings, dots: each)",
    )
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(fontsize=9, ncols=4)
    return figure


def maps_figure(maps: dict[str, np.ndarray], labels: np.ndarray) -> Figure:
    """Posterior means of test images, embedded in the plane (t-SNE), coloured by digit."""
    figure = Figure(figsize=(5.0 * len(maps), 5.3))
    figure.set_layout_engine("constrained")
    for ax, (name, places) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
        ax.scatter(*places.T, s=5, c=labels, cmap="tab10", alpha=0.7, rasterized=True)
        for digit in np.unique(labels):
            ax.text(
                *np.median(places[labels == digit], 0),
                str(digit),
                fontsize=15,
                weight="bold",
                ha="center",
                va="center",
                path_effects=[patheffects.withStroke(linewidth=3, foreground="w")],
            )
        ax.set(title=name, xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    figure.suptitle(
        f"Posterior means of {len(labels):,} test images, embedded by t-SNE (first trainings; "
        "neighbours mean something, distances and sizes do not)"
    )
    return figure
