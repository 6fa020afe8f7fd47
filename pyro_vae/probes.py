"""What latents tell of the labels: accuracies of readers fitted to some and tried on others.

All functions take latents `(N, d)` and labels `(N,)` to fit to, and others to be tried on, and
return the share of the latter that are read correctly.
"""

import numpy as np
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
