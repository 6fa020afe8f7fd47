"""Explained variance against targets whose share of noise is known."""

import numpy as np
import pytest

from pyro_vae.analysis.explained import held_out_r2


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    images = 4000
    columns = {
        "a": rng.normal(size=images),
        "b": rng.normal(size=images),
        "class": rng.integers(10, size=images).astype(float),
    }
    noise = rng.normal(size=images)
    held_out = rng.permutation(images) < 1000
    return columns, noise, held_out


def test_the_share_of_a_known_signal(table):
    """Var(signal) = Var(noise) = 1: half is to be explained, of which the trees lose about 0.02.

    The standard error of R^2 over 1,000 held-out images is about 0.02, so that 0.09 is more than
    three of them beside that loss: at most one seed in 700 fails.
    """
    columns, noise, held_out = table
    explained = held_out_r2({"a": columns["a"]}, columns["a"] + noise, held_out)
    assert explained.share == pytest.approx(0.5, abs=0.09)
    assert explained.low < explained.share < explained.high
    assert 0.05 < explained.high - explained.low < 0.2


def test_a_feature_that_says_nothing_explains_nothing(table):
    """The trees fit some of the noise, which costs about 0.05 where it is not."""
    columns, noise, held_out = table
    assert -0.15 < held_out_r2({"b": columns["b"]}, noise, held_out).share < 0.02


def test_features_act_together_and_in_any_way(table):
    columns, noise, held_out = table
    target = columns["a"] * np.sign(columns["b"]) + 0.1 * noise
    alone = held_out_r2({"a": columns["a"]}, target, held_out)
    both = held_out_r2({k: columns[k] for k in "ab"}, target, held_out)
    assert alone.share < 0.02
    assert both.share > 0.9


def test_a_class_is_a_label_and_not_a_number(table):
    columns, noise, held_out = table
    level = np.random.default_rng(1).permutation(10)[columns["class"].astype(int)]
    explained = held_out_r2(
        {"class": columns["class"]}, level + 0.1 * noise, held_out, categorical=("class",)
    )
    assert explained.share > 0.99


def test_it_is_measured_on_the_images_held_out(table):
    """Pure noise, which trees can learn by heart: explained where fitted, not where held out."""
    columns, noise, _ = table
    few = np.arange(len(noise)) % 40 != 0  # all but 100 images are held out
    assert held_out_r2(columns, noise, few).share < 0.05
