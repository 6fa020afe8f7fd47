"""Draws held against known distributions; 5 standard errors, so one seed in 1.7 million fails."""

import math

import numpy as np
import pytest
import torch

from experiments.question_a.noise import lost_between
from pyro_vae.analysis.active_units import active_units
from pyro_vae.analysis.interventions import gaussian_noise, salt_and_pepper
from pyro_vae.analysis.judges import knn_judge
from pyro_vae.analysis.sampling import (
    decode,
    decode_style,
    encode_style,
    guide_samples,
    pixel_samples,
    posterior_mean,
    posterior_samples,
)
from pyro_vae.problems import LinearGaussian
from pyro_vae.seeds import derive_seed
from tests.autoencoders import build_vae
from tests.shared import off_by


def test_posterior_samples_have_the_posteriors_moments():
    """One draw for each of 3,000 copies of an image, from a guide at the wrong place and scale."""
    problem = LinearGaussian()
    x = problem.data(1).expand(3000, -1)
    loc, covariance = problem.posterior(x[:1])
    z, ess = posterior_samples(
        problem.model, problem.shifted_guide, x, num_draws=1, num_samples=1000
    )
    assert z.shape == (1, 3000, 2)
    assert (ess > 250).all()
    white = torch.linalg.solve(torch.linalg.cholesky(covariance), (z[0] - loc).T).T
    for column in white.T:
        assert abs(off_by(column, 0)) < 5
        assert abs(off_by(column**2, 1)) < 5
    guide = guide_samples(problem.shifted_guide, x, num_samples=1)[0]
    assert abs(off_by(guide[:, 0], loc[0, 0])) > 5  # the guide itself is not the posterior


def test_the_posterior_mean_is_the_posteriors():
    """Self-normalised by 20,000 weights; 0.05 is 5 standard errors where a tenth are effective."""
    problem = LinearGaussian()
    x = problem.data(110)  # more than one block of images
    loc, _ = problem.posterior(x)
    mean, ess = posterior_mean(problem.model, problem.shifted_guide, x, num_samples=20_000)
    assert mean.shape == (110, 2)
    assert (ess > 2000).all()
    assert (mean - loc).abs().max() < 0.05  # the guide itself is 0.2 off
    again, _ = posterior_mean(problem.model, problem.shifted_guide, x[:100], num_samples=20_000)
    assert torch.equal(mean[:100], again)


def test_styles_go_through_the_prior_and_back():
    """More images than a block holds, each with its own label; latents known by hand."""
    torch.manual_seed(0)
    model, guide = build_vae(2, num_classes=10, prior="learned")
    shift = torch.arange(10.0)[:, None].expand(-1, 2)
    model.prior.affine.weight.data = torch.cat([shift, torch.full((10, 2), math.log(2))], 1)
    y = torch.arange(600) % 10  # z = y + 2 e
    style = torch.randn(600, 2)
    expected = decode(model, y[:, None] + 2 * style, y)
    torch.testing.assert_close(decode_style(model, style, y), expected)
    twice = decode(model, torch.stack([style, y[:, None] + 2 * style]), y)  # labels of both alike
    torch.testing.assert_close(twice[1], expected)
    x = torch.rand(600, 1, 28, 28)
    styles = encode_style(model, guide, x, y, num_samples=2, seed=3)
    assert styles.shape == (2, 600, 2)
    z = guide_samples(guide, x[500:], y[500:], num_samples=2, seed=derive_seed(3, 1))
    torch.testing.assert_close(styles[:, 500:], (z - y[500:, None]) / 2)


def test_guide_samples_are_the_guides(trained, digits):
    _, guide = trained
    x = digits.test_images[:2]
    z = guide_samples(guide, x, num_samples=4000)
    q = guide.q(x)
    loc, scale = q.mean, q.variance.sqrt()
    for b in range(2):
        for i in range(2):
            white = (z[:, b, i] - loc[b, i]).detach() / scale[b, i].detach()
            assert abs(off_by(white, 0)) < 5
            assert abs(off_by(white**2, 1)) < 5
    assert torch.equal(z, guide_samples(guide, x, num_samples=4000))


def test_decoded_means_and_pixels(trained):
    model, _ = trained
    means = decode(model, torch.zeros(3, 5, 2))
    assert means.shape == (3, 5, 1, 28, 28)
    assert ((means > 0) & (means < 1)).all()
    z = torch.randn(2, 400, 2)  # more than are decoded at a time
    torch.testing.assert_close(decode(model, z), torch.stack([decode(model, part) for part in z]))
    pixels = pixel_samples(torch.full((1, 1, 28, 28), 0.3).expand(20, -1, -1, -1))
    assert set(pixels.unique().tolist()) == {0, 1}
    assert abs(off_by(pixels.flatten(), 0.3)) < 5


@pytest.mark.parametrize("noise", [gaussian_noise, salt_and_pepper])
def test_noise(noise):
    x = torch.rand(50, 1, 28, 28)
    rng = torch.Generator().manual_seed(0)
    assert torch.equal(noise(x, 0.0, rng), x)
    noisy = noise(x, 0.3, rng)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    if noise is salt_and_pepper:
        changed = (noisy != x).double().flatten()
        assert abs(off_by(changed, 0.3)) < 5
        assert abs(off_by(noisy[noisy != x].double(), 0.5)) < 5
    else:
        inside = (x > 0.45) & (x < 0.55)  # clipping leaves three halves of a deviation here
        assert 0.2 < (noisy - x)[inside].std() < 0.3


def test_where_half_are_lost():
    levels = [0.0, 1.0, 2.0, 3.0]
    assert lost_between(levels, [1.0, 0.6, 0.4, 0.1]) == [1.0, 2.0]
    assert lost_between(levels, [1.0, 0.9, 0.8, 0.7]) is None


def test_the_judge_classifies(digits):
    read, accuracy = knn_judge(digits)
    assert accuracy > 0.9
    read_again = read(digits.test_images[:6].reshape(2, 3, 1, 28, 28))
    assert read_again.shape == (2, 3)
    assert np.array_equal(read_again.ravel(), read(digits.test_images[:6]))


def test_active_units_are_the_closed_form():
    """Two dimensions: one that says nothing, and one whose mean moves by 2 with deviation 0.5."""
    mean = torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    use = active_units(mean, torch.tensor([[1.0, 0.5], [1.0, 0.5]]))
    assert use.order == [1, 0]
    assert use.activity == [2, 0]
    assert use.kl == pytest.approx([0.5 * (1 + 0.25 - 1) + math.log(2), 0])
    assert use.active == 1
