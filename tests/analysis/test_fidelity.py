"""Distances between sets of features, held against closed forms."""

import numpy as np
import pytest
from scipy import linalg

from pyro_vae.analysis.fidelity import density_coverage, frechet_distance, precision_recall
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


REAL = np.array([[0.0], [1], [3], [7]])  # whose second neighbours are 3, 2, 3 and 6 away


def test_the_balls_reach_to_the_neighbour_that_is_asked_for():
    """By hand: just inside and just outside the balls of the outermost images, and between."""
    drawn = np.array([[-2.9], [-3.1], [12.9], [13.1]])
    assert precision_recall(REAL, drawn, neighbours=2)[0] == 0.5
    assert precision_recall(drawn, REAL, neighbours=2)[1] == 0.5
    # 3.5 lies in the balls of 3 and 7; no drawn image lies in that of 1
    drawn = np.array([[-2.9], [12.9], [3.5], [100]])
    assert density_coverage(REAL, drawn, neighbours=2) == (4 / 4 / 2, 3 / 4)


def test_density_and_coverage_of_sets_from_one_distribution():
    """Density 1 and coverage 1 - 2^-5, within five standard deviations over 20 pairs of sets."""
    pairs = [
        density_coverage(features([0, 0], 1, 400, seed), features([0, 0], 1, 400, seed + 100))
        for seed in range(20)
    ]
    error = np.std(pairs, 0, ddof=1) / np.sqrt(20)
    assert (np.abs(np.mean(pairs, 0) - [1, 1 - 2**-5]) < 5 * error).all()
    assert (error < 0.02).all()


def test_one_real_image_far_out_raises_precision_and_not_density():
    real = np.random.default_rng(0).uniform(size=(500, 2))
    far = np.random.default_rng(1).uniform(size=(500, 2)) + 10
    with_one = np.concatenate([real, [[20.0, 20.0]]])
    assert precision_recall(real, far)[0] == 0
    assert precision_recall(with_one, far)[0] == 1
    density, coverage = density_coverage(with_one, far)
    assert density == pytest.approx(1 / 5)
    assert coverage == 1 / 501


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
    with pytest.raises(InputError, match="neighbours must be below"):
        density_coverage(good, good)
    assert density_coverage(np.eye(7)[:, :2], good)[0] >= 0  # only real images need neighbours
