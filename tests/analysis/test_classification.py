"""Bayes' rule held against a conditional model whose p(y | x) is known."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import entropy

from pyro_vae.analysis import classification
from pyro_vae.analysis.classification import (
    class_log_likelihoods,
    label_mutual_information,
    label_probabilities,
    reliability,
)
from pyro_vae.errors import InputError

CENTRES = torch.tensor([[0.0, 0.0], [1.5, 0.0], [0.0, 2.0]]).double()


def model(x, y):
    """x = centre of y + z + noise of sd 0.5: x | y ~ N(centre, 1.25 I)."""
    prior = dist.Normal(torch.zeros(2).double(), 1).to_event(1)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", prior)
        pyro.sample("x", dist.Normal(CENTRES[y] + z, 0.5).to_event(1), obs=x)


def guide(x, y):
    """Around the posterior's mean (x - centre) / 1.25, and wider than its sd of 0.45."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal((x - CENTRES[y]) / 1.25, 0.6).to_event(1))


@pytest.fixture(scope="module")
def data():
    rng = torch.Generator().manual_seed(0)
    y = torch.randint(3, (400,), generator=rng)
    noise = torch.randn(400, 2, generator=rng, dtype=torch.float64)
    return CENTRES[y] + math.sqrt(1.25) * noise, y.numpy()


def exact(x):
    apart = (x[:, None] - CENTRES).square().sum(-1).numpy()
    return -apart / 2.5 - math.log(2 * math.pi * 1.25)


def test_log_likelihoods_and_probabilities_are_the_closed_form(data):
    x, _ = data
    found = class_log_likelihoods(model, guide, x, num_classes=3, num_samples=500)
    log_p = np.column_stack([one.value for one in found])
    se = np.column_stack([one.se for one in found])
    # 1,200 comparisons: 5.5 standard errors fail for one seed in 20,000
    assert (np.abs(log_p - exact(x)) < 5.5 * se).all()
    p = label_probabilities(exact(x))
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(label_probabilities(log_p), p, atol=0.1)
    assert np.abs(label_probabilities(log_p) - p).mean() < 0.01


def test_a_prior_weighs_and_large_scores_do_not_overflow():
    log_p = np.array([[-1e5, -1e5], [0.0, -math.inf]])
    np.testing.assert_allclose(label_probabilities(log_p), [[0.5, 0.5], [1, 0]])
    weighed = label_probabilities(log_p, prior=np.array([0.9, 0.1]))
    np.testing.assert_allclose(weighed, [[0.9, 0.1], [1, 0]])
    for wrong in (np.array([[math.nan, 0.0]]), np.array([[-math.inf, -math.inf]])):
        with pytest.raises(InputError, match="log_p must"):
            label_probabilities(wrong)


def test_each_label_has_draws_of_its_own(monkeypatch):
    """With the same draws for all labels, their errors would cancel, and look smaller."""
    seeds = []
    monkeypatch.setattr(
        classification, "log_likelihood", lambda *batch, seed, **_: seeds.append((seed, batch[3]))
    )
    x = torch.zeros(2, 1, 28, 28)
    class_log_likelihoods(model, model, x, num_classes=3, seed=7)
    assert [seed for seed, _ in seeds] == [7, 8, 9]
    assert [y.tolist() for _, y in seeds] == [[0, 0], [1, 1], [2, 2]]


def test_label_mutual_information_is_the_mutual_information(data):
    """On the model's own images; against the entropy of y given x by the closed form."""
    x, labels = data
    p = label_probabilities(exact(x))
    conditional = -(p * np.log(p)).sum(1)  # H(y | x), image by image
    found = label_mutual_information(exact(x), labels)
    of_labels = entropy(np.bincount(labels))
    difference = found["mean"] - (of_labels - conditional.mean())
    spread = np.log(p[np.arange(400), labels]) + conditional  # mean zero over y given x
    assert abs(difference) < 5 * spread.std() / math.sqrt(400)
    assert found["mean"] < np.log(3)
    ignored = label_mutual_information(np.zeros((400, 3)), labels)["mean"]
    assert ignored == pytest.approx(of_labels - np.log(3))


def test_labels_that_are_all_alike_have_no_information():
    sure = np.array([[0.0, -50, -50]] * 4)
    assert label_mutual_information(sure, np.zeros(4, int))["mean"] == pytest.approx(0)


def test_the_interval_knows_that_labels_are_drawn():
    """A perfect reader of labels 0.7, 0.3: their entropy varies as the labels do.

    Of 200 intervals fewer than 180 hold the truth with a probability of 0.3%.
    """
    rng, truth = np.random.default_rng(0), entropy([0.7, 0.3])
    held = 0
    for _ in range(200):
        labels = rng.choice(2, 300, p=[0.7, 0.3])
        low, high = label_mutual_information(50.0 * np.eye(2)[labels], labels)["ci95"]
        held += low <= truth <= high
    assert held >= 180


def test_a_miss_counts_whole():
    """Below the least of float64's logarithms too."""
    log_p = np.array([[0.0, -5000], [0, -5000]])
    found = label_mutual_information(log_p, np.array([0, 1]))
    assert found["mean"] == pytest.approx(np.log(2) - 2500)


def test_reliability_counts_what_is_right():
    p = np.array([[0.9, 0.1], [0.95, 0.05], [0.4, 0.6], [0.45, 0.55]])
    found = reliability(p, np.array([0, 1, 1, 1]), np.array([0.5, 0.8, 1.0]))
    assert [one["images"] for one in found] == [2, 2]
    assert [one["right"]["mean"] for one in found] == [1, 0.5]
    assert found[1]["sure"] == pytest.approx(0.925)


def test_reliability_leaves_out_what_lies_outside_its_edges():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.75, 0.25], [1.0, 0.0]])
    (found,) = reliability(p, np.zeros(4, int), np.array([0.7, 0.8]))
    assert found["images"] == 1
    (found,) = reliability(p, np.zeros(4, int), np.array([0.95, 1.0]))
    assert found["images"] == 1  # the upper edge of the last belongs to it
