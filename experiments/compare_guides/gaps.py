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
from pyro_vae.analysis.calibration import calibrate
from pyro_vae.analysis.comparison import Evaluation, evaluate, table
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.programs import has_own_numbers


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


def calibration_of(field: Field, name: str, x: Tensor) -> dict | None:
    """Return how far the ranks of simulated latents are from uniform, by weighted draws.

    Simulated images are black and white, and an encoder that was trained on grey ones has never
    seen any: so its draws are weighted, by 1,000 samples. None for a guide with numbers of its own
    for each image.
    """
    if name == "refined":
        model, guide = field.refined.model, field.refined.guide
    else:
        model, guide = field.candidates[name]
    if has_own_numbers(guide):
        return None
    options = {"num_samples": 1000, "seed": SEED, "progress": f"{name}: calibration"}
    return calibrate(model, guide, x, **options).summary()


def figure(rows: list[dict], title: str) -> Figure:
    """Draw what the ELBO of each guide misses, in its two parts."""
    figure = Figure(figsize=(9, 0.42 * len(rows) + 1.6))
    figure.set_layout_engine("constrained")
    _draw_gaps(figure.subplots(), rows, np.arange(len(rows))[::-1])
    figure.legend(loc="outside lower center", ncols=3)
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
        "approximation": (COLOURS["posterior"], "the family's gap"),
        "amortisation": (COLOURS["guide"], "the encoder's gap"),
        "sum": ("0.7", "both together"),
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
    )
    ax.set_yticks(place, [row["guide"].replace("_", " ") for row in rows])
