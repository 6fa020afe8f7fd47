"""Several trainings of each contender: mean, spread, and intervals over them."""

import numpy as np
from matplotlib.axes import Axes

from pyro_vae.likelihood.intervals import welch_interval

COLOURS = {"d4": "#d95f02", "d20": "#1b6ca8", "example": "#4d9221"}


REAL = "0.35"


def over_seeds(runs: list) -> dict:
    """The same measurements of several seeds as one: each number becomes mean, sd and seeds."""
    if isinstance(runs[0], dict):
        return {key: over_seeds([run[key] for run in runs]) for key in runs[0]}
    values = np.array(runs, float)
    spread = values.std(0, ddof=1) if len(runs) > 1 else np.full(values.shape[1:], np.nan)
    return {"mean": values.mean(0).tolist(), "sd": spread.tolist(), "seeds": values.tolist()}


def over_trainings(one: list[np.ndarray], other: list[np.ndarray]) -> dict:
    """How far apart two contenders' means over images lie, with the interval over trainings.

    Not paired: seed s of one has nothing in common with seed s of the other.
    """
    return welch_interval(*(np.array([run.mean() for run in runs]) for runs in (one, other)))


def seeds_curve(ax: Axes, x: list[float], found: dict, colour: str) -> None:
    """The mean over seeds, and one standard deviation each way."""
    mean, sd = np.array(found["mean"]), np.nan_to_num(found["sd"])
    ax.plot(x, mean, "o-", ms=4, color=colour)
    ax.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.2)
