"""What does changing an image do to its score?

A feature that goes with a high score need not cause it. So the same images are scored as they are
and after each of eleven changes. What a change does to the score has two parts: the entropy floor
moves, and so does the excess over it.
"""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_b.shared import nats, refined_log_p
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
    """Draw one image after each change (`strip`), and the mean change of all images' scores."""
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
        error = np.abs(ends.T - means)
        ax.barh(rows + offset, means, 0.22, color=colour, label=label)
        ax.errorbar(means, rows + offset, xerr=error, fmt="none", color="k", lw=0.9)
    ax.set_yticks(rows, changes)
    ax.axvline(0, color="0.2", lw=0.9)
    ax.set(
        xlabel="mean change, nats per image (95% intervals)",
        title=f"What each change does to the score of {metrics['images']} test images",
    )
    ax.legend(fontsize=9)
    return figure
