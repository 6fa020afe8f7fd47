"""The spread over several trainings of each contender.

What training anew would change is as much a part of an answer as which images were scored.
"""

import numpy as np

from pyro_vae.likelihood.intervals import mean_interval

COLOURS = {"d4": "#d95f02", "d20": "#1b6ca8", "example": "#4d9221"}


def over_seeds(trainings: list) -> dict:
    """Merge the same measurements of several trainings: each number becomes mean, sd and seeds.

    `trainings` holds equal structures: dicts, nested at will, of numbers or lists of numbers.
    """
    if isinstance(trainings[0], dict):
        return {key: over_seeds([run[key] for run in trainings]) for key in trainings[0]}
    values = np.array(trainings, float)
    sd = values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)
    return {"mean": values.mean(0).tolist(), "sd": sd.tolist(), "seeds": values.tolist()}


def over_trainings(a: list[np.ndarray], b: list[np.ndarray]) -> dict:
    """Compare two contenders' means over images, `(B,)` of each training, over the trainings.

    They are paired by seed: those of one seed see the same batches, and those of equal d the same
    noise.
    """
    means = [first.mean() - second.mean() for first, second in zip(a, b, strict=True)]
    interval = mean_interval(np.array(means))
    interval["trainings"] = interval.pop("images")
    return interval
