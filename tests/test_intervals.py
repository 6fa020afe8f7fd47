import numpy as np
import pytest

from pyro_vae.intervals import mean_interval


def test_by_hand():
    found = mean_interval(np.array([1.0, 2.0, 3.0]))
    half = 4.302653 / np.sqrt(3)  # Student's t with 2 degrees of freedom
    assert found == {"mean": 2, "ci95": pytest.approx([2 - half, 2 + half]), "images": 3}


def test_it_covers():
    """95% of 2,000 intervals hold the true mean: within 3 standard errors of 0.5% (1 in 370)."""
    draws = np.random.default_rng(0).normal(5, 2, size=(2000, 6))
    ends = [mean_interval(values)["ci95"] for values in draws]
    assert np.mean([low <= 5 <= high for low, high in ends]) == pytest.approx(0.95, abs=0.015)


def test_one_image_says_nothing_of_others():
    assert mean_interval(np.array([3.0]))["ci95"] == [-np.inf, np.inf]
