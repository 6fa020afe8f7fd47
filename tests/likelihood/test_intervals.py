import numpy as np
import pytest
from scipy import stats

from pyro_vae.likelihood.intervals import (
    mcnemar,
    mean_interval,
    proportion_interval,
    standard_error_of_mean,
    welch_interval,
)


def test_by_hand():
    found = mean_interval(np.array([1.0, 2.0, 3.0]))
    half = 4.302653 / np.sqrt(3)  # Student's t with 2 degrees of freedom
    assert found == {"mean": 2, "ci95": pytest.approx([2 - half, 2 + half]), "images": 3}


def test_two_values_have_an_interval():
    half = 12.706205  # Student's t with 1 degree of freedom, times a standard error of 1
    assert mean_interval(np.array([1.0, 3.0]))["ci95"] == pytest.approx([2 - half, 2 + half])


def test_it_covers():
    """95% of 2,000 intervals hold the true mean: within 3 standard errors of 0.5% (1 in 370)."""
    draws = np.random.default_rng(0).normal(5, 2, size=(2000, 6))
    ends = [mean_interval(values)["ci95"] for values in draws]
    assert np.mean([low <= 5 <= high for low, high in ends]) == pytest.approx(0.95, abs=0.015)


def test_one_image_says_nothing_of_others():
    assert mean_interval(np.array([3.0]))["ci95"] == [-np.inf, np.inf]


def test_an_infinite_mean_has_an_infinite_interval():
    """log p(x) of an image that no sample explains is -inf."""
    found = mean_interval(np.array([-100.0, -np.inf, -90.0]))
    assert found == {"mean": -np.inf, "ci95": [-np.inf, np.inf], "images": 3}
    found = welch_interval(np.array([-np.inf, 0.0]), np.array([1.0, 2.0]))
    assert found == {"mean": -np.inf, "ci95": [-np.inf, np.inf]}


def test_standard_errors_of_images_make_that_of_their_mean():
    assert standard_error_of_mean(np.array([3.0, 4.0])) == 2.5
    assert standard_error_of_mean(np.array([3.0, 0.0]), np.array([0.0, 4.0])) == 2.5


def test_a_share_has_wilsons_interval():
    found = proportion_interval(np.array([True] * 8 + [False] * 2))
    z, n, p = 1.959964, 10, 0.8
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = {"mean": p, "ci95": pytest.approx([middle - half, middle + half]), "images": n}
    assert found == expected
    low, high = proportion_interval(np.ones(50, bool))["ci95"]
    assert high == pytest.approx(1)
    assert 0.9 < low < 0.95  # all right of 50 does not mean that all are


def test_two_readings_of_the_same_images():
    before = np.array([True] * 10 + [False] * 6)
    after = np.array([False] + [True] * 9 + [True] * 5 + [False])
    found = mcnemar(before, after)
    assert (found["mended"], found["spoilt"]) == (5, 1)
    assert found["difference"]["mean"] == pytest.approx(4 / 16)
    assert found["p_value"] == pytest.approx(2 * (1 + 6) / 2**6)  # at most 1 of 6 on either side
    assert mcnemar(before, before)["p_value"] == 1


def test_changes_that_all_go_one_way():
    """Five of five spoilt: by chance once in 16, either way."""
    before, after = np.ones(8, bool), np.arange(8) < 3
    assert mcnemar(before, after)["p_value"] == pytest.approx(2 / 2**5)
    assert mcnemar(after, before)["p_value"] == pytest.approx(2 / 2**5)


def test_values_that_are_not_paired_have_welchs_interval():
    one, other = np.array([1.0, 2.0, 6.0]), np.array([0.0, 1.0])
    a, b = 7 / 3, 0.5 / 2  # s^2 / n of each
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 1)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(a + b)
    found = welch_interval(one, other)
    assert found == {"mean": 2.5, "ci95": pytest.approx([2.5 - half, 2.5 + half])}
    assert welch_interval(one, other[:1])["ci95"] == [-np.inf, np.inf]
