"""What latents tell of the labels: accuracies of readers fitted to some and tried on others.

All functions take latents `(N, d)` and labels `(N,)` to fit to, and others to be tried on, and
return the share of the latter that are read correctly: their accuracy.
"""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def linear_probe(z: np.ndarray, y: np.ndarray, other_z: np.ndarray, other_y: np.ndarray) -> float:
    """Logistic regression on standardised latents: are the labels linearly separable?"""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(probe.fit(z, y).score(other_z, other_y))


def neighbour_probe(
    z: np.ndarray, y: np.ndarray, other_z: np.ndarray, other_y: np.ndarray, neighbours: int = 10
) -> float:
    """A vote among the nearest latents: do near latents have the same label, in whatever shape?"""
    probe = KNeighborsClassifier(min(neighbours, len(z)))
    return float(probe.fit(z, y).score(other_z, other_y))


def tree_probe(
    z: np.ndarray, y: np.ndarray, other_z: np.ndarray, other_y: np.ndarray
) -> tuple[float, float]:
    """Boosted trees: their accuracy, and what the latents tell of the labels at least, in nats.

    The latter is H(y) minus the cross-entropy of the trees' probabilities on the other latents, a
    lower bound of the mutual information I(z; y) in expectation (Barber, Agakov 2003, The IM
    algorithm); it can fall below zero, where there is nothing to be read.
    """
    probe = HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0)
    p = probe.fit(z, y).predict_proba(other_z)
    place = np.searchsorted(probe.classes_, other_y)
    log_p = np.log(p[np.arange(len(other_y)), place])
    share = np.bincount(other_y) / len(other_y)
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    accuracy = float((probe.classes_[p.argmax(1)] == other_y).mean())
    return accuracy, float(entropy + log_p.mean())
