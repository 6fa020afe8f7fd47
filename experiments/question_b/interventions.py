"""What does changing an image do to its score?

A feature that goes with a high score need not cause it. So the same images are scored as they are
and after each of eleven changes. What a change does to the score has two parts: the entropy floor
moves, and so does the excess over it.
"""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_b.shared import refined_log_p
from pyro_vae.analysis.features import entropy_floor
from pyro_vae.analysis.interventions import binarise, blur, deslant, resize, shear, shift, thicken
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.vae import Vae

INTERVENTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "thicker by 1 pixel": lambda x: thicken(x, 1),
    "thicker by 2 pixels": lambda x: thicken(x, 2),
    "thinner by 1 pixel": lambda x: thicken(x, -1),
    "larger by 15%": lambda x: resize(x, 1.15),
    "smaller by 15%": lambda x: resize(x, 1 / 1.15),
    "leaning 0.25 to the right": lambda x: shear(x, 0.25),
    "leaning 0.25 to the left": lambda x: shear(x, -0.25),
    "set upright": deslant,
    "2 pixels to the right": lambda x: shift(x, 0, 2),
    "blurred, sigma 0.7": lambda x: blur(x, 0.7),
    "black and white": binarise,
}

SHOWN = (
    "thicker by 1 pixel", "larger by 15%", "smaller by 15%", "2 pixels to the right",
    "blurred, sigma 0.7", "black and white",
)  # fmt: skip


def measure(vae: Vae, x: Tensor) -> tuple[dict, list[tuple[Tensor, float]]]:
    """Return the metrics, and one image as it is and after each change, each with its score.

    The image shown has the median score of the images `x`.
    """
    before = refined_log_p(vae, x, "as they are")
    floor = entropy_floor(x)
    shown = int(np.argsort(before.value)[len(x) // 2])
    strip, changes = [(x[shown], before.value[shown])], {}
    for name, change in INTERVENTIONS.items():
        changed = change(x)
        after = refined_log_p(vae, changed, name)
        strip.append((changed[shown], after.value[shown]))
        floor_change = entropy_floor(changed) - floor
        score_change = after.value - before.value
        changes[name] = {
            "score": mean_interval(score_change),
            "from_the_floor": mean_interval(-floor_change),
            "from_the_excess": mean_interval(score_change + floor_change),
            "share_trusted": float(after.trusted().mean()),
        }
    unchanged = {"mean": float(before.value.mean()), "floor": float(floor.mean())}
    return {"unchanged": unchanged, "images": len(x), "changes": changes}, strip


def figure(strip: list[tuple[Tensor, float]], metrics: dict) -> Figure:
    """Draw six changes, on one image each (`strip`), and the mean change of all images' scores."""
    changes = metrics["changes"]
    images = dict(zip(("as it is", *changes), (image for image, _ in strip), strict=True))
    names = sorted(SHOWN, key=lambda name: changes[name]["score"]["mean"])
    figure = Figure(figsize=(9, 5))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    for key, colour, label in (
        ("from_the_floor", "#e6ab02", "through the entropy floor: grey edges"),
        ("from_the_excess", COLOURS["posterior"], "through the excess: what the model expects"),
    ):
        offset = 0.17 if key == "from_the_floor" else -0.17
        means, error = _with_errors(changes, names, key)
        rows = np.arange(len(names)) + offset
        ax.barh(rows, means, 0.32, color=colour, label=label)
        ax.errorbar(means, rows, xerr=error, fmt="none", color="k", lw=0.8)
    means, error = _with_errors(changes, names, "score")
    ax.errorbar(means, np.arange(len(names)), xerr=error, fmt="kD", ms=5, label="whole change")
    for row, name in enumerate(names):
        place = [-0.13, (row + 0.1) / len(names), 0.12, 0.8 / len(names)]
        show_image(ax.inset_axes(place), images[name])
    ax.set_yticks(range(len(names)), [name.replace(", ", ",\n") for name in names])
    ax.tick_params(axis="y", pad=75, length=0)
    ax.set_ylim(-0.5, len(names) - 0.5)
    ax.axvline(0, color="0.2", lw=0.9)
    ax.set(
        xlabel="mean change of the score, nats per image (95% intervals)",
        title=f"What changing {metrics['images']} test images does to their score",
    )
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _with_errors(changes: dict, names: list[str], key: str) -> tuple[np.ndarray, np.ndarray]:
    means = np.array([changes[name][key]["mean"] for name in names])
    ends = np.array([changes[name][key]["ci95"] for name in names])
    return means, np.abs(ends.T - means)
