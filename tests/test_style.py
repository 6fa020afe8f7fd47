import numpy as np
import pytest

from pyro_vae.errors import InputError
from pyro_vae.style import shared_correlation, shared_interval, shuffled


def styles(share, count=3000):
    """Ten digits with levels and scales of their own, a `share` of their variance in common."""
    random = np.random.default_rng(0)
    common, own = random.normal(size=(count, 1)), random.normal(size=(count, 10))
    values = np.sqrt(share) * common + np.sqrt(1 - share) * own
    return np.arange(10) * 5 + np.arange(1, 11) * values


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_correlation_is_the_share_in_common(share):
    # its standard error is below 1 / sqrt(3000), one pair's
    assert shared_correlation(styles(share)) == pytest.approx(share, abs=5 / np.sqrt(3000))


def test_shuffling_leaves_nothing_in_common():
    values = styles(0.9)
    mixed = shuffled(values)
    np.testing.assert_array_equal(np.sort(mixed, 0), np.sort(values, 0))
    assert abs(shared_correlation(mixed)) < 5 / np.sqrt(3000)


def test_a_feature_that_never_moves_is_left_out():
    values = styles(0.5)
    values[:, 3] = 7
    assert shared_correlation(values) == pytest.approx(0.5, abs=0.1)
    assert np.isnan(shared_correlation(np.ones((5, 3))))
    with pytest.raises(InputError, match="2 of each at least"):
        shared_correlation(values[:1])


def test_the_interval_holds_the_share_in_common():
    """In about 95 of 100 data sets: 100 (binomial, 85 or fewer in one of 20,000 seeds)."""
    random = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        common, own = random.normal(size=(60, 1)), random.normal(size=(60, 5))
        low, high = shared_interval(np.sqrt(0.5) * (common + own), seed=seed)
        held += low <= 0.5 <= high
    assert 85 < held <= 100
