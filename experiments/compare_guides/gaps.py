"""How far does each guide's ELBO stay below log p(x), and is its family or its encoder to blame?

A researcher who chooses a guide asks whether a richer family is worth its cost. The gap to log p(x)
tells: `pyro_vae.analysis.comparison` defines its two parts.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.compare_guides import SEED
from experiments.compare_guides.candidates import Field
from experiments.compare_guides.training import Training
from pyro_vae.analysis.comparison import Evaluation, evaluate, table
from pyro_vae.analysis.plots import COLOURS


def evaluate_all(field: Field, x: Tensor, gap_images: int) -> dict[str, Evaluation]:
    """Evaluate every guide on the images `x`, and the refined guide too if they share a generator.

    Then log p(x) is the same for all, and is estimated once.
    """
    if field.refined is None:
        log_p = None
    else:
        log_p = field.refined.log_likelihood(x, se=0.1, seed=SEED, progress="refined log p")
    options = {"log_p": log_p, "gap_images": gap_images}
    evaluations = {
        name: evaluate(model, guide, x, seed=SEED, progress=name, **options)
        for name, (model, guide) in field.candidates.items()
    }
    if field.refined is not None:
        model, guide = field.refined.model, field.refined.guide
        # other samples than those of `log_p`
        options |= {"seed": SEED + 1, "progress": "refined, as a guide"}
        evaluations["refined"] = evaluate(model, guide, x, **options)
    return evaluations


def table_of(evaluations: dict[str, Evaluation], trainings: dict[str, Training]) -> list[dict]:
    """Return the comparison's table, with what each training took and its history."""
    rows = table(evaluations)
    for row in rows:
        training = trainings.get(row["guide"], Training(0.0, []))
        row["seconds"]["train"], row["history"] = training
    return rows


def figure(rows: list[dict], title: str) -> Figure:
    """Draw the gaps of each guide, its differences to the first, and how far its weights go."""
    figure = Figure(figsize=(12.8, 0.5 * len(rows) + 2.2))
    figure.set_layout_engine("constrained")
    left, middle, right = figure.subplots(1, 3, sharey=True, width_ratios=[1.5, 1.1, 1])
    place = np.arange(len(rows))[::-1]
    _draw_gaps(left, rows, place)
    _draw_differences(middle, rows, place)
    share = [row["share_trusted"] for row in rows]
    ess = [row["median_ess"] / row["num_samples"] for row in rows]
    right.barh(place + 0.17, share, 0.32, color="#4d9221", label="images that pass $\\hat k$")
    right.barh(place - 0.17, ess, 0.32, color="0.5", label="median effective sample share")
    right.set(xlim=(0, 1), title=f"{rows[0]['num_samples']:,} samples an image")
    right.xaxis.set_major_formatter("{x:.0%}")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8.5)
    figure.suptitle(title)
    return figure


def _draw_gaps(ax: Axes, rows: list[dict], place: np.ndarray) -> None:
    """Draw a bar for each guide's gap, in its two parts where they are known."""
    totals = np.array([row["gaps"]["sum"]["mean"] for row in rows])
    # a total far beyond the median is cut and marked; the others' last intervals fit in
    last = [row["gaps"].get("amortisation", row["gaps"]["sum"]) for row in rows]
    ends = totals + [part["ci95"][1] - part["mean"] for part in last]
    widest = 1.05 * max(ends[totals <= 5 * np.median(totals)], default=1.0)
    parts = {
        "approximation": (COLOURS["posterior"], "approximation gap: the family"),
        "amortisation": (COLOURS["guide"], "amortisation gap: the encoder"),
        "sum": ("0.7", "both, not told apart"),
    }
    for y, row, total in zip(place, rows, totals, strict=True):
        gaps = row["gaps"]
        if total > widest:
            ax.text(widest, y, f" {total:.0f} \u25b6", va="center", ha="right", fontsize=9)
        start = 0.0
        for key in ("approximation", "amortisation") if "approximation" in gaps else ("sum",):
            mean, (low, high) = gaps[key]["mean"], gaps[key]["ci95"]
            ax.barh(y, mean, 0.6, left=start, color=parts[key][0])
            ax.plot([start + low, start + high], [y, y], "k-", lw=1)
            start += mean
    for colour, label in parts.values():
        ax.barh([np.nan], [np.nan], color=colour, label=label)
    lowest = min(0.0, *(gap["ci95"][0] for row in rows for gap in row["gaps"].values()))
    ax.set(
        xlabel=f"log p(x) − ELBO, nats per image, {rows[0]['gaps']['sum']['images']:,} images",
        xlim=(lowest, widest),
        title="What the ELBO misses (95% interval of each part)",
    )
    ax.set_yticks(place, [row["guide"] for row in rows])


def _draw_differences(ax: Axes, rows: list[dict], place: np.ndarray) -> None:
    """Draw each guide's scores minus the first guide's; those far beyond the gaps as numbers."""
    differences = np.array([row["elbo_minus_first"]["mean"] for row in rows])
    gaps = [row["gaps"]["sum"]["mean"] for row in rows]
    usual = np.abs(differences)[np.abs(differences) <= 5 * np.median(gaps)]
    reach = 1.6 * max(0.1, *usual)
    for key, colour, offset, label in (
        ("elbo_minus_first", COLOURS["guide"], 0.13, "ELBO"),
        ("iwae_100_minus_first", COLOURS["posterior"], -0.13, "IWAE-100"),
    ):
        means = np.array([row[key]["mean"] for row in rows])
        ends = np.array([row[key]["ci95"] for row in rows]).T
        y = place + offset
        ax.errorbar(means, y, xerr=np.abs(ends - means), fmt="o", ms=4, color=colour, label=label)
        style = {"va": "center", "fontsize": 9, "color": colour}
        for height, mean in zip(y, means, strict=True):
            if abs(mean) > reach:
                mark, side = ("\u25c0", "left") if mean < 0 else ("\u25b6", "right")
                text = f" {mark} {mean:.0f} ".replace("-", "\u2212")
                ax.text(np.copysign(reach, mean), height, text, ha=side, **style)
    ax.axvline(0, color="0.3", lw=0.8)
    ax.set(
        xlim=(-reach, reach),
        xlabel=f"minus {rows[0]['guide']}'s, nats per image",
        title=f"Paired differences, {rows[0]['elbo']['images']:,} images (95% intervals)",
    )
