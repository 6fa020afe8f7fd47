"""How much of a score's variance over images their features explain, on images held out."""

from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from pyro_vae.errors import InputError, check_seed, check_table, checked


class Explained(NamedTuple):
    """R^2 on the images held out, and its 95% interval over the choice of these images."""

    share: float
    low: float
    high: float


@checked
def held_out_r2(
    features: dict[str, np.ndarray],
    target: np.ndarray,
    held_out: np.ndarray,
    categorical: tuple[str, ...] = (),
    seed: int = 0,
) -> Explained:
    """R^2 = 1 - sum (target - prediction)^2 / sum (target - mean)^2 on the images held out.

    The prediction is that of gradient-boosted trees fitted to the other images, so that a feature
    may act in any way and together with others. It falls below zero where the fit does worse than
    the mean would.

    Args:
        features: name and value for each image, `(B,)`.
        target: the score, `(B,)`.
        held_out: which images are held out, `(B,)` bool; ten or more.
        categorical: names of the features whose values are only labels.
    """
    if held_out.dtype != bool or held_out.ndim != 1 or not 9 < held_out.sum() < len(held_out):
        raise InputError("held_out must be bool, True for ten images or more and not for all")
    if not features or any(v.shape != held_out.shape for v in (*features.values(), target)):
        raise InputError(f"target and features, at least one, must be ({len(held_out)},)")
    check_table(target=target[:, None], **{name: v[:, None] for name, v in features.items()})
    if target[held_out].std() == 0:
        raise InputError("target must not be the same for all images that are held out")
    if not set(categorical) <= features.keys():
        raise InputError(f"categorical must name some of the features, {list(features)}")
    if any(len(np.unique(features[name])) > 255 for name in categorical):
        raise InputError("categorical must name features of at most 255 values each")
    check_seed(seed)
    table = np.column_stack(list(features.values()))
    trees = HistGradientBoostingRegressor(
        learning_rate=0.05,
        max_iter=200,
        min_samples_leaf=min(20, max(1, int((~held_out).sum()) // 10)),
        early_stopping=False,
        categorical_features=[name in categorical for name in features],
        random_state=seed,
    )
    trees.fit(table[~held_out], target[~held_out])
    truth = target[held_out]
    errors = np.square(truth - trees.predict(table[held_out]))
    # resampled together: the spread of the held-out images is as uncertain as the errors
    chosen = np.random.default_rng(seed).integers(len(truth), size=(1000, len(truth)))
    shares = 1 - errors[chosen].mean(1) / truth[chosen].var(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return Explained(float(1 - errors.mean() / truth.var()), float(low), float(high))
