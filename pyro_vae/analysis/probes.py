"""What latents tell about labels: the accuracy of classifiers of z on latents not fitted to.

All functions fit a classifier to latents `(N, d)` and labels `(N,)`, and return its accuracy on
other latents. Those with probabilities also return H(y) minus their cross-entropy on the other
latents, nats. In expectation this is a lower bound of the mutual information I(z; y). It is
negative where the classifier is overconfident.

References:
    Barber, Agakov (2003), The IM algorithm: a variational approach to information maximization.
"""

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pyro_vae.errors import InputError, check_classes, check_counts, check_table, checked


@checked
def linear_probe(
    z: np.ndarray, y: np.ndarray, other_z: np.ndarray, other_y: np.ndarray
) -> tuple[float, float]:
    """Fit logistic regression to standardised latents: are the labels linearly separable?"""
    _check(z, y, other_z, other_y)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return _evaluate(probe.fit(z, y), other_z, other_y)


@checked
def neighbour_probe(
    z: np.ndarray, y: np.ndarray, other_z: np.ndarray, other_y: np.ndarray, neighbours: int = 10
) -> float:
    """Let the nearest latents vote: do near latents have the same label, in whatever shape?"""
    _check(z, y, other_z, other_y)
    check_counts(neighbours=neighbours)
    probe = KNeighborsClassifier(min(neighbours, len(z)))
    return float(probe.fit(z, y).score(other_z, other_y))


@checked
def tree_probe(
    z: np.ndarray, y: np.ndarray, other_z: np.ndarray, other_y: np.ndarray
) -> tuple[float, float]:
    """Fit boosted trees, stopped where a held-out tenth of the latents is classified no better."""
    _check(z, y, other_z, other_y)
    if len(z) < 10 * len(np.unique(y)):
        raise InputError(f"z must hold ten times as many latents as labels, not {len(z)}")
    probe = HistGradientBoostingClassifier(
        max_iter=300,
        learning_rate=0.03,
        max_leaf_nodes=8,
        l2_regularization=10,
        early_stopping=True,
        n_iter_no_change=5,
        random_state=0,
    )
    return _evaluate(probe.fit(z, y), other_z, other_y)


def _evaluate(
    probe: ClassifierMixin, other_z: np.ndarray, other_y: np.ndarray
) -> tuple[float, float]:
    """Return a fitted classifier's accuracy, and its bound of I(z; y) in nats."""
    p = probe.predict_proba(other_z)
    place = np.searchsorted(probe.classes_, other_y)
    log_p = np.log(p[np.arange(len(other_y)), place])
    share = np.unique(other_y, return_counts=True)[1] / len(other_y)
    entropy = -(share * np.log(share)).sum()
    accuracy = float((probe.classes_[p.argmax(1)] == other_y).mean())
    return accuracy, float(entropy + log_p.mean())


def _check(z: np.ndarray, y: np.ndarray, other_z: np.ndarray, other_y: np.ndarray) -> None:
    check_table(z=z, other_z=other_z)
    if z.shape[1] != other_z.shape[1]:
        raise InputError(f"other_z must have {z.shape[1]} columns as z, not {other_z.shape[1]}")
    check_classes(len(z), y=y)
    check_classes(len(other_z), other_y=other_y)
    if min(np.unique(y, return_counts=True)[1]) < 2 or len(np.unique(y)) < 2:
        raise InputError("y must hold two labels or more, each of them twice at least")
    if not np.isin(other_y, y).all():
        raise InputError("y must hold every label of other_y")
