"""How much of a score's variance over images their features explain, on held-out images."""

from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from pyro_vae.errors import InputError, check_seed, check_table, checked


class Explained(NamedTuple):
    """R^2 on the held-out images, and its 95% interval over the choice of these images."""

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
    """Return R^2 = 1 - sum (target - prediction)^2 / sum (target - mean)^2 on held-out images.

    Gradient-boosted trees fitted to the other images make the prediction, so a feature may act in
    any way and together with others. R^2 is negative where the trees do worse than the mean.

    Args:
        features: values `(B,)` by name.
        target: the score, `(B,)`.
        held_out: `(B,)` bool, True for at least ten images.
        categorical: names of the features whose values are labels without order.
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
    # a bootstrap over images, of errors and variance together: both are uncertain
    chosen = np.random.default_rng(seed).integers(len(truth), size=(1000, len(truth)))
    resampled = 1 - errors[chosen].mean(1) / truth[chosen].var(1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Explained(float(1 - errors.mean() / truth.var()), float(low), float(high))
