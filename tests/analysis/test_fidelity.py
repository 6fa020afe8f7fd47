"""Distances between sets of features, held against closed forms."""

import numpy as np
import pytest
from scipy import linalg

from pyro_vae.analysis.fidelity import frechet_distance, precision_recall
from pyro_vae.errors import InputError


def features(mean, scale, count=40_000, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, len(mean))) * scale + mean


def test_frechet_distance_of_gaussians_is_the_closed_form():
    """|m - m'|^2 + sum (s - s')^2 for diagonal covariances; turned together, the same."""
    a, b = features([0, 1, 2], [1, 2, 3]), features([1, 1, 0], [2, 2, 1], seed=1)
    expected = 1 + 4 + (1 + 0 + 4)
    # moments of 40,000: standard errors of about 0.02 to 0.03; 0.2 is more than 6 of them
    assert frechet_distance(a, b) == pytest.approx(expected, abs=0.2)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), abs=1e-6)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), abs=1e-6)


def test_frechet_distance_where_the_covariances_do_not_commute():
    """Against SciPy's square root of C C', which the function never forms."""
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)) for _ in range(2))
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    assert np.abs(c @ d - d @ c).max() > 1
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    expected = apart + np.trace(c + d - 2 * linalg.sqrtm(c @ d).real)
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_frechet_distance_of_a_set_from_itself_is_zero():
    a = features([0, 1, 2], [1, 2, 0.0], 500)  # one feature never moves
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_precision_and_recall_of_sets_that_are_known():
    real = np.random.default_rng(0).uniform(size=(500, 2))
    near = np.random.default_rng(1).uniform(size=(500, 2))
    far = near + 10
    left = near * [0.5, 1]  # only half of what is real
    assert precision_recall(real, far) == (0, 0)
    assert precision_recall(real, real) == (1, 1)
    # uniform against uniform: a point is covered but for one in exp(-3), by the 3 nearest each
    both = precision_recall(real, near)
    assert min(both) > 0.9
    precision, recall = precision_recall(real, left)
    assert precision > 0.9
    assert recall == pytest.approx(0.5, abs=0.1)
    mixed = np.concatenate([near[:250], far[:250]])  # half of what is generated is not real
    precision, recall = precision_recall(real, mixed)
    assert precision == pytest.approx(0.5, abs=0.1)
    assert recall > 0.8


def test_wrong_features_are_one_clear_line():
    good = np.zeros((5, 2))
    with pytest.raises(InputError, match="generated must hold finite numbers"):
        frechet_distance(good, np.full((5, 2), np.nan))
    with pytest.raises(InputError, match="real must hold features of at least 2 images"):
        precision_recall(good[:1], good)
    with pytest.raises(InputError, match="the same features, not 2 and 3"):
        frechet_distance(good, np.zeros((5, 3)))
    with pytest.raises(InputError, match="neighbours must be below"):
        precision_recall(good, good, neighbours=5)
