"""How far each guide's ELBO stays below log p(x), and why."""

import numpy as np
from matplotlib.figure import Figure

from pyro_vae.analysis.plots import COLOURS


def gaps_figure(rows: list[dict], title: str) -> Figure:
    """How far each guide's ELBO stays below log p(x), and why; and what its weights are worth."""
    figure = Figure(figsize=(12.8, 0.5 * len(rows) + 2.2))
    figure.set_layout_engine("constrained")
    left, middle, right = figure.subplots(1, 3, sharey=True, width_ratios=[1.5, 1.1, 1])
    place = np.arange(len(rows))[::-1]
    totals = np.array([row["gaps"]["sum"]["mean"] for row in rows])
    # a total beyond is cut, and marked; of the others there is room for the interval at their end
    last = [row["gaps"].get("amortisation", row["gaps"]["sum"]) for row in rows]
    reached = totals + [part["ci95"][1] - part["mean"] for part in last]
    widest = 1.05 * max(reached[totals <= 5 * np.median(totals)], default=1.0)
    for y, row in zip(place, rows, strict=True):
        gaps = row["gaps"]
        total = gaps["sum"]["mean"]
        if total > widest:
            left.text(widest, y, f" {total:.0f} \u25b6", va="center", ha="right", fontsize=9)
        parts = {"approximation": COLOURS["posterior"], "amortisation": COLOURS["guide"]}
        if "approximation" not in gaps:
            parts = {"sum": "0.7"}
        start = 0.0
        for key, colour in parts.items():
            mean, ends = gaps[key]["mean"], gaps[key]["ci95"]
            left.barh(y, mean, 0.6, left=start, color=colour)
            end = start + mean
            left.plot([end - mean + ends[0], end - mean + ends[1]], [y, y], "k-", lw=1)
            start = end
    for label, colour in (
        ("approximation gap: the family", COLOURS["posterior"]),
        ("amortisation gap: the encoder", COLOURS["guide"]),
        ("both, not told apart", "0.7"),
    ):
        left.barh([np.nan], [np.nan], color=colour, label=label)
    left.set(
        xlabel=f"log p(x) − ELBO, nats per image, {rows[0]['gaps']['sum']['images']:,} images",
        xlim=(
            min(0.0, *(row["gaps"][key]["ci95"][0] for row in rows for key in row["gaps"])),
            widest,
        ),
        title="What the ELBO misses (95% interval of each part)",
    )
    left.set_yticks(place, [row["guide"] for row in rows])
    differences = np.array([row["elbo_minus_first"]["mean"] for row in rows])
    usual = np.abs(differences)[np.abs(differences) <= 5 * np.median(totals)]
    reach = 1.6 * max(0.1, *usual)
    for key, colour, offset, label in (
        ("elbo_minus_first", COLOURS["guide"], 0.13, "ELBO"),
        ("iwae_100_minus_first", COLOURS["posterior"], -0.13, "IWAE-100"),
    ):
        means = np.array([row[key]["mean"] for row in rows])
        ends = np.array([row[key]["ci95"] for row in rows]).T
        middle.errorbar(
            means,
            place + offset,
            xerr=np.abs(ends - means),
            fmt="o",
            ms=4,
            color=colour,
            label=label,
        )
        for y, mean in zip(place + offset, means, strict=True):
            if abs(mean) > reach:
                mark, side = ("\u25c0", "left") if mean < 0 else ("\u25b6", "right")
                number = f"{mean:.0f}".replace("-", "\u2212")
                middle.text(
                    np.copysign(reach, mean),
                    y,
                    f" {mark} {number} ",
                    va="center",
                    ha=side,
                    fontsize=9,
                    color=colour,
                )
    middle.axvline(0, color="0.3", lw=0.8)
    middle.set(
        xlim=(-reach, reach),
        xlabel=f"minus {rows[0]['guide']}'s, nats per image",
        title=f"Paired differences, {rows[0]['elbo']['images']:,} images (95% intervals)",
    )
    share = [row["share_trusted"] for row in rows]
    ess = [row["median_ess"] / row["num_samples"] for row in rows]
    right.barh(place + 0.17, share, 0.32, color="#4d9221", label="images that pass $\\hat k$")
    right.barh(place - 0.17, ess, 0.32, color="0.5", label="median effective sample share")
    right.set(xlim=(0, 1), title=f"{rows[0]['num_samples']:,} samples an image")
    right.xaxis.set_major_formatter("{x:.0%}")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8.5)
    figure.suptitle(title)
    return figure
