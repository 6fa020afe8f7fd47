"""The figures of question (d), from what `experiments.question_d` has measured."""

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from pyro_vae.analysis.plots import COLOURS, image_rows, show_image
from pyro_vae.likelihood.quadrature import GridPosterior

NAMES = {
    "1": "guide, 1 sample",
    "elbo": "ELBO, 100 samples",
    "local": "100 samples,\n8 local steps",
}


def theory_figure(
    x: Tensor,
    y: Tensor,
    plane: GridPosterior,
    spread: Tensor,
    drawn: Tensor,
    perfect: Tensor,
    guided: Tensor,
) -> Figure:
    """Draws by resampling over the exact posterior, and the log weights of exact and guide.

    `spread`, `(B, 2, 2)`, are the ends of the axes.
    """
    figure = Figure(figsize=(10.8, 2.55 * len(x) + 0.9))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(x), 3, width_ratios=[0.55, 1, 1.5], squeeze=False)
    points = round(len(plane.z) ** 0.5)
    excess = guided - plane.log_evidence
    ends = float(excess.quantile(0.005)), float(excess.max())
    bins = np.linspace(ends[0], max(ends[1], 1), 80)
    for b, (left, middle, right) in enumerate(axes):
        show_image(left, x[b], f"x, y = {int(y[b])}")
        density = plane.log_posterior[:, b].exp().view(points, points)
        nodes = plane.z[:, b].view(points, points, 2)
        extent = [*nodes[[0, -1], 0, 0].tolist(), *nodes[0, [0, -1], 1].tolist()]
        middle.imshow(density.T, extent=extent, origin="lower", cmap="Blues", aspect="auto")
        middle.plot(*drawn[:, b].T.cpu(), ".", ms=2, color="0.15", alpha=0.6)
        middle.set(xlim=spread[b, 0].tolist(), ylim=spread[b, 1].tolist())
        middle.set_facecolor("#f7fbff")  # as the shading's lowest: the grid may end before the axes
        middle.grid(False)
        middle.set_ylabel("$z_2$", rotation=0, labelpad=6)
        right.hist(excess[:, b].clip(min=bins[0]), bins, color=COLOURS["guide"], alpha=0.8,
                   label="samples of the guide")  # fmt: skip
        right.hist(perfect[:, b] - plane.log_evidence[b], bins, color=COLOURS["posterior"],
                   label="samples of the exact posterior")  # fmt: skip
        right.set(yscale="log", ylabel="samples")
        if b == 0:
            middle.set_title("exact $p(z\\,|\\,x, y)$ (shading),\n400 draws by resampling")
            right.set_title("log weight minus $\\log p(x\\,|\\,y)$, 1,000 samples")
            right.legend(fontsize=8.5)
    axes[-1, 1].set_xlabel("$z_1$")
    axes[-1, 2].set_xlabel("nats (the first bar: all that are lower)")
    figure.suptitle(
        "The perfect sampling distribution is the posterior: its weights are equal, up to the grid"
    )
    return figure


def styles_figure(sets: Tensor) -> Figure:
    """Four styles drawn from N(0, I), each over the ten digits."""
    return image_rows(
        list(sets),
        [f"style {i + 1}" for i in range(len(sets))],
        "Four styles: one draw of N(0, I) for each row, y = 0, ..., 9",
        [[f"y = {digit}" for digit in range(10)]] + [[""] * 10] * (len(sets) - 1),
        size=1.05,
    )


def transfer_figure(x: Tensor, labels: list[int], sets: Tensor) -> Figure:
    """Each real image, and its style on all ten digits."""
    rows = [torch.cat([x[i : i + 1], row]) for i, row in enumerate(sets)]
    titles = ["image x", *[f"y = {digit}" for digit in range(10)]]
    return image_rows(
        rows,
        [f"a {label}" for label in labels],
        "The style of a real image on all ten digits: one draw of its posterior for each row",
        [titles] + [[""] * 11] * (len(rows) - 1),
        size=1.0,
    )


def digits_figure(images: Tensor, read: np.ndarray) -> Figure:
    """Ten random styles of every digit; what the classifier reads is said where it differs."""
    titles = [
        ["" if seen == digit else f"read as {seen}" for seen in row]
        for digit, row in enumerate(read)
    ]
    return image_rows(
        list(images),
        [f"y = {digit}" for digit in range(10)],
        "Random samples of each digit: y fixed, the style drawn from N(0, I)",
        titles,
        size=0.95,
    )


def ways_figure(rows: list[Tensor], digits: list[int]) -> Figure:
    """From the style of one image to that of another, the digit fixed."""
    steps = rows[0].shape[0] - 2
    between = [f"{i}/{steps - 1}" for i in range(1, steps - 1)]
    titles = ["image 0", "t = 0", *between, "t = 1", "image 1"]
    return image_rows(
        rows,
        [f"y = {digit}" for digit in digits],
        "From one style to another: $f((1-t)\\,\\mu_0 + t\\,\\mu_1,\\, y)$, "
        "$\\mu_0$ and $\\mu_1$ the guide's mean styles of the two images",
        [titles] + [[""] * len(titles)] * (len(rows) - 1),
        size=1.05,
    )


def units_figure(images: dict[int, Tensor], steps: list[float], activity: list[float]) -> Figure:
    """What the most used dimensions of style do to two digits, the others at zero."""
    figure = Figure(figsize=(12.6, 6.6))
    figure.set_layout_engine("constrained")
    for part, (digit, rows) in zip(figure.subfigures(1, len(images)), images.items(), strict=True):
        grid = part.subplots(*rows.shape[:2])
        for i, (axes, row) in enumerate(zip(grid, rows, strict=True)):
            for ax, image, step in zip(axes, row, steps, strict=True):
                show_image(ax, image, f"{step:.1f}".replace("-", "−") if i == 0 else "")
            axes[0].set_ylabel(
                f"unit {i + 1}\nvar {activity[i]:.2f}",
                rotation=0, ha="right", va="center", labelpad=6, fontsize=8.5,
            )  # fmt: skip
        part.suptitle(f"y = {digit}", fontsize=11.5)
    figure.suptitle(
        f"{len(rows)} of the {len(activity)} dimensions of style, one at a time, on two digits"
    )
    return figure


def classification_figure(metrics: dict) -> Figure:
    """Errors by samples and guide, calibration, and what 100 samples miss."""
    figure = Figure(figsize=(13.4, 4.3))
    figure.set_layout_engine("constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.15, 1, 0.9])
    rows = {
        NAMES.get(k, f"guide, {k} samples"): found["accuracy"]
        for k, found in metrics["by_samples"].items()
    }
    rows["100, where in doubt\nthe refined guide"] = metrics["with_refined"]["accuracy"]
    rows["black and white\npixels, 100"] = metrics["binarised"]["accuracy"]
    rows["the classifier\n(trained for it)"] = metrics["classifier"]["accuracy"]
    place = np.arange(len(rows))[::-1]
    error = np.array([1 - row["mean"] for row in rows.values()])
    ends = np.array([[1 - end for end in row["ci95"]] for row in rows.values()])
    colours = [COLOURS["guide"]] * len(metrics["by_samples"])
    colours += [COLOURS["posterior"], COLOURS["guide"], "0.5"]
    left.barh(place, error, 0.6, color=colours)
    left.errorbar(error, place, xerr=[error - ends[:, 1], ends[:, 0] - error], fmt="none",
                  color="k", lw=1)  # fmt: skip
    left.set_yticks(place, rows)
    left.set(xlabel="test images misread (95% intervals)", title="By Bayes' rule, all test images")
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.xaxis.set_major_formatter("{x:.1%}")
    for found, colour, label in (
        (metrics["calibration"]["bayes"], COLOURS["posterior"], "Bayes' rule"),
        (metrics["binarised"]["calibration"], COLOURS["guide"], "the same, black and white"),
        (metrics["calibration"]["classifier"], "0.5", "the classifier"),
    ):
        bins = [one for one in found if one["images"] >= 10]
        sure = logit(np.array([one["sure"] for one in bins]))
        share = logit(np.array([one["right"]["mean"] for one in bins]))
        low, high = logit(np.array([one["right"]["ci95"] for one in bins])).T
        middle.errorbar(
            sure, share, fmt="o-", ms=4, color=colour, label=label, yerr=[share - low, high - share]
        )
    ticks = np.array([0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999])
    for axis in (middle.xaxis, middle.yaxis):
        axis.set_ticks(logit(ticks), [f"{t * 100:g}%" for t in ticks], fontsize=8)
    ends = logit(np.array([0.4, 1.0]))
    middle.plot(ends, ends, color="0.3", lw=0.8, ls="--")
    middle.set(
        xlabel="how sure: largest p(y | x)",
        ylabel="how often right",
        title="Calibration (all right: at the top)",
    )
    middle.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    every = metrics["every_label_refined"]
    names = ("rise_own_label", "rise_best_other_label", "rise_other_labels")
    for place, name in enumerate(names):
        found = every[name]
        right.bar(place, found["mean"], 0.55, color=COLOURS["posterior"])
        right.errorbar(place, found["mean"], yerr=found["ci95"][1] - found["mean"], color="k", lw=1)
    right.set_xticks(
        range(3), ["the image's\nown label", "the best\nother label", "all nine\nothers"]
    )
    right.set(
        ylabel="nats",
        title="What 100 samples miss: refined minus\n100-sample log p(x | y), "
        f"{found['images']} images",
    )
    return figure


def logit(p: np.ndarray) -> np.ndarray:
    """log p / (1 - p), of shares at the edge as if a third of one in 100,000 were missing."""
    p = np.clip(p, 1e-5 / 3, 1 - 1e-5 / 3)
    return np.log(p / (1 - p))


def mistakes_figure(images: Tensor, mistakes: list[dict], count: int) -> Figure:
    """Test images that Bayes' rule misreads, the surest mistakes first, of `count` in all."""
    columns = 8
    rows = max(1, -(-len(mistakes) // columns))
    figure = Figure(figsize=(1.4 * columns, 1.95 * rows + 1.0))
    figure.set_layout_engine("constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[len(mistakes) :]:
        ax.axis("off")
    for ax, wrong in zip(axes, mistakes, strict=False):
        show_image(ax, images[wrong["image"]], f"a {wrong['digit']}, read as {wrong['read_as']}")
        ax.set_xlabel(
            f"by {wrong['lead_nats']:.1f} nats\nclassifier: {wrong['classifier']}",
            fontsize=8,
            labelpad=2,
        )
    figure.suptitle(
        f"What Bayes' rule misreads: {len(mistakes)} of {count} test images, the surest first\n"
        "(by how many nats the wrong label leads, and what the classifier reads)"
    )
    return figure


def information_figure(difference: np.ndarray, labels: np.ndarray, metrics: dict) -> Figure:
    """log p(x | y) minus log p(x) image by image, and its mean for each digit."""
    figure = Figure(figsize=(10.6, 3.9))
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2)
    low, high = np.quantile(difference, [0.002, 0.998])
    left.hist(difference.clip(low, high), 50, color=COLOURS["posterior"])
    mean = metrics["difference"]["mean"]
    for value, style, name in (
        (mean, "-", f"mean {mean:.2f}"),
        (metrics["entropy_of_the_label"], "--", "log 10, the label's entropy"),
    ):
        left.axvline(value, color="k", ls=style, lw=1.2, label=name)
    left.set(
        xlabel="$\\log p(x\\,|\\,y) - \\log p(x)$, nats (the end bars: all beyond)",
        ylabel="test images",
        title=f"Conditional minus unconditional model, {len(difference):,} images",
    )
    left.legend(fontsize=8.5)
    found = metrics["by_digit"]
    means = np.array([row["mean"] for row in found.values()])
    half = np.array([row["ci95"][1] for row in found.values()]) - means
    right.errorbar(list(map(int, found)), means, yerr=half, fmt="o", color=COLOURS["posterior"])
    entropy = metrics["entropy_of_the_label"]
    right.axhline(entropy, color="k", ls="--", lw=1.2, label="log 10")
    right.legend(fontsize=8.5, loc="lower right")
    right.axhline(0, color="0.4", lw=0.8)
    right.set(xlabel="digit", ylabel="nats per image (95%)", title="By digit", xticks=range(10))
    return figure


def failures_figure(sets: dict[str, Tensor], metrics: dict) -> Figure:
    """Two styles over ten digits from each model, and the measures that tell them apart."""
    figure = Figure(figsize=(13.2, 2.35 * len(sets) + 0.7))
    figure.set_layout_engine("constrained")
    for part, (name, rows) in zip(figure.subfigures(len(sets), 1), sets.items(), strict=True):
        left, right = part.subfigures(1, 2, width_ratios=[2.1, 1])
        for axes, row in zip(left.subplots(*rows.shape[:2]), rows, strict=True):
            for digit, (ax, image) in enumerate(zip(axes, row, strict=True)):
                show_image(ax, image, f"y = {digit}")
        left.suptitle(name, fontsize=11.5)
        ax = right.subplots()
        found = metrics[name]
        bars = {
            "image read as its y": found["generated"]["mean"],
            "Bayes' rule right": found["bayes"]["accuracy"]["mean"],
            "slant shared (correlation)": found["consistency"]["slant"]["shared"],
            "y read from style": found["probes"]["best"],
        }
        colours = [COLOURS["posterior"]] * 3 + [COLOURS["guide"]]
        place = np.arange(4)[::-1]
        ax.barh(place, list(bars.values()), 0.6, color=colours)
        for y, value in zip(place, bars.values(), strict=True):
            ax.text(max(value, 0.1) + 0.015, y, f"{value:.0%}", va="center", fontsize=9)
        ax.axvline(found["probes"]["largest_class"], color="0.3", lw=0.8, ls="--")
        ax.set_yticks(place, bars)
        ax.set(xlim=(0, 1.2))
        ax.set_xticks([0, 0.5, 1], ["0", "50%", "100%"])
    figure.suptitle(
        "Made to fail: what the pictures and the measures show\n"
        "(blue bars should be long, the orange one at chance, dashed; "
        "a slant that all digits share proves nothing alone)"
    )
    return figure
