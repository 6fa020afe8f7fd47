"""Programs of users, from training to comparison, by the public names alone."""

import numpy as np
import pyro
import pytest
import torch
from torch import nn

from pyro_vae import (
    Refined,
    annealed_log_likelihood,
    compare,
    fit,
    log_likelihood,
    unlabelled_log_likelihood,
)
from tests.guests import HalfLabelled, PyroStyle, clusters


@pytest.fixture(scope="module")
def pyro_style(digits):
    torch.manual_seed(0)
    vae = PyroStyle()
    history = fit(
        vae.model, vae.guide, (digits.train_images,), (digits.test_images[:50],), epochs=5,
        batch_size=50, progress=False,
    )  # fmt: skip
    return vae, history


def test_pyros_style_trains(pyro_style):
    _, history = pyro_style
    assert history[-1]["test_elbo"] > history[0]["test_elbo"] + 20
    assert abs(history[-1]["test_elbo"] - history[-1]["train_elbo"]) < 30


def test_pyros_style_is_scored_refined_and_annealed(pyro_style, digits):
    """Three estimators of the same log p(x): 5 standard errors, one seed in 1.7 million an image.

    The guide's own 1,000 samples are trusted for few images, and may only be too low.
    """
    vae, _ = pyro_style
    x = digits.test_images[:2]
    plain = log_likelihood(vae.model, vae.guide, x, num_samples=1000)
    refined = log_likelihood(vae.model, Refined(vae.model, vae.guide), x, num_samples=1000)
    annealed = annealed_log_likelihood(vae.model, vae.guide, x, num_chains=20, num_steps=100)
    assert refined.trusted().all()
    assert (refined.se < 0.1).all()
    assert (plain.elbo < refined.value).all()
    gap = np.abs(refined.value - annealed.value)
    assert (gap < 5 * np.hypot(refined.se, annealed.se) + 0.01).all()


def test_pyros_style_is_compared(pyro_style, digits, capsys):
    vae, _ = pyro_style
    guides = {"theirs": vae.guide, "refined": Refined(vae.model, vae.guide)}
    theirs, refined = compare(vae.model, guides, digits.test_images[:4])
    assert theirs["gaps"]["sum"]["mean"] > refined["gaps"]["sum"]["mean"] > -0.1
    assert refined["share_trusted"] == 1
    assert "theirs" in capsys.readouterr().out


@pytest.fixture(scope="module")
def half_labelled():
    torch.manual_seed(0)
    vae = HalfLabelled()
    x, y = clusters(300)
    data = [(x[:60], y[:60]), (x[60:],)]
    fit(vae.model, vae.guide, data, epochs=60, batch_size=30, learning_rate=0.01, progress=False)
    return vae


def test_half_labelled_images_are_trained_in_one_call(half_labelled):
    x, y = clusters(300, seed=1)
    guessed = half_labelled.classifier(x).argmax(1)
    assert (guessed == y.argmax(1)).float().mean() > 0.9


def test_without_labels_sampling_and_the_exact_sum_agree(half_labelled):
    """log p(x) by four ways: y sampled or summed, z from the guide or refined."""
    vae, (x, y) = half_labelled, clusters(3, seed=2)
    eye = torch.eye(3)
    refined = Refined(vae.model, vae.guide, num_starts=4, samples_per_round=(200, 400))
    ways = [
        log_likelihood(vae.model, vae.guide, x, num_samples=5000),
        unlabelled_log_likelihood(vae.model, vae.guide, x, labels=eye, num_samples=5000),
        log_likelihood(vae.model, refined, x, num_samples=2000),
        unlabelled_log_likelihood(vae.model, refined, x, labels=eye, num_samples=2000),
    ]
    assert (ways[2].trusted() & ways[3].trusted()).all()
    for way in ways[:3]:
        gap = np.abs(way.value - ways[3].value)
        assert (gap < 5 * np.hypot(way.se, ways[3].se) + 1e-3).all()
    # and with the label: log p(x, y) is below log p(x)
    joint = log_likelihood(vae.model, refined, x, y, num_samples=2000)
    assert (joint.value < ways[3].value + 5 * joint.se).all()


def test_a_guest_leaves_no_parameter_behind(half_labelled):
    log_likelihood(half_labelled.model, half_labelled.guide, clusters(3)[0], num_samples=5)
    assert not list(pyro.get_param_store().keys())
    assert isinstance(half_labelled, nn.Module)
