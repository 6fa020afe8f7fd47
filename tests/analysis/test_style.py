import numpy as np
import pytest

from pyro_vae.analysis.style import shared_correlation, shared_interval, shuffled, style_correlation
from pyro_vae.errors import InputError


def styles(share, count=3000):
    """Ten digits with levels and scales of their own, a `share` of their variance in common."""
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(count, 1)), rng.normal(size=(count, 10))
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
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        common, own = rng.normal(size=(60, 1)), rng.normal(size=(60, 5))
        low, high = shared_interval(np.sqrt(0.5) * (common + own), 200, seed)
        held += low <= 0.5 <= high
    assert 85 < held <= 100


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_what_is_carried_over_from_images_to_other_digits(share):
    """An image's feature is that of its own digit; the nine others share a part of it.

    With common part c and own parts e_j of variance 1 - share: the correlation of c + e_0 with
    the mean of nine c + e_j is share / sqrt(share + (1 - share) / 9), or 0.
    """
    values = styles(share)
    labels = np.random.default_rng(1).integers(0, 10, len(values))
    # one scale for all digits, so that each weighs alike in the mean; levels of their own
    levels = np.arange(10) * 5
    values = levels + (values - levels) / np.arange(1, 11)
    own = values[np.arange(len(values)), labels]
    found = style_correlation(own, values, labels)
    expected = share / np.sqrt(share + (1 - share) / 9)
    # its standard error is below 1 / sqrt(3000); 5 of them in one of a million seeds
    assert found["correlation"] == pytest.approx(expected, abs=5 / np.sqrt(3000))
    assert found["ci95"][0] < found["correlation"] < found["ci95"][1]
    assert np.isnan(style_correlation(np.full(len(own), 7.0), values, labels)["correlation"])
    with pytest.raises(InputError, match="2 of each at least"):
        style_correlation(own[:1], values[:1], labels[:1])
