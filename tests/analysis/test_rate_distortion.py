"""Rate and distortion held against quadrature over the latent plane, and against the bound.

Monte Carlo tolerances are 5 standard errors: each comparison fails for one seed in 1.7 million.
"""

import math

import numpy as np
import pytest
import torch

from pyro_vae.analysis.rate_distortion import (
    Tempering,
    guide_rate_distortion,
    model_rate_distortion,
)
from pyro_vae.errors import InputError
from pyro_vae.likelihood.importance import log_joint_in_chunks, log_likelihood
from pyro_vae.likelihood.quadrature import integrate_plane
from pyro_vae.models import Model
from pyro_vae.priors import LearnedPrior


@torch.no_grad()
def exact(model, x, beta):
    """R(q_b) and D(q_b) by quadrature: the mean of log q_b / p, and of -log p(x | z), over q_b."""
    plane = integrate_plane(Tempering(beta)(model), x, points=81)
    w = plane.log_posterior.exp() * plane.cell
    log_prior = model.prior(x).log_prob(plane.z.to(x)).double()
    rate = (w * (plane.log_posterior - log_prior)).sum(0)
    log_lik = log_joint_in_chunks(model, [x], {"z": plane.z.to(x)}) - log_prior
    return rate.numpy(), -(w * log_lik).sum(0).numpy()


def elsewhere(model):
    """The model with another prior, N(1, 0.7^2 I)."""
    prior = LearnedPrior(2)
    with torch.no_grad():
        prior.affine.weight.copy_(torch.tensor([[1.0, 1.0, math.log(0.7), math.log(0.7)]]))
    return Model(model.decoder, model.pixel_distribution, prior)


@pytest.mark.parametrize(
    ("beta", "changed"), [(0.1, None), (1.0, None), (3.0, None), (0.3, elsewhere)]
)
def test_the_models_curve_is_quadratures(trained, digits, beta, changed):
    model, guide = trained
    model = changed(model) if changed else model
    x = digits.test_images[:4]
    rate, distortion = exact(model, x, beta)
    # ten copies of each image, with draws of their own: ten runs
    found = model_rate_distortion(model, guide, x.repeat(10, 1, 1, 1), beta=beta)
    for name, truth in (("rate", rate), ("distortion", distortion)):
        runs = getattr(found, name).reshape(10, 4).mean(1)  # of the mean image
        # ten runs: Student's t with 9 degrees of freedom has 1 in 1.7 million beyond 11.5
        se = runs.std(ddof=1) / np.sqrt(len(runs))
        assert abs(runs.mean() - truth.mean()) < 11.5 * se + 1e-3
        assert se < 0.3


def test_at_beta_one_rate_and_distortion_add_up_to_log_p(trained, digits):
    model, guide = trained
    x = digits.test_images[:4]
    found = model_rate_distortion(model, guide, x, beta=1.0, num_samples=2000)
    exact_log_p = integrate_plane(model, x, points=81).log_evidence.numpy()
    log_p = log_likelihood(model, guide, x, num_samples=5000)
    np.testing.assert_allclose(-(found.rate + found.distortion), exact_log_p, atol=0.1)
    assert (found.rate + found.distortion <= -log_p.value + 5 * log_p.se + 0.1).all()


def test_the_curve_falls_and_the_guide_lies_above_it(trained, digits):
    model, guide = trained
    x = digits.test_images[:4]
    betas = [0.1, 0.3, 1.0, 3.0]
    curve = [model_rate_distortion(model, guide, x, beta=beta) for beta in betas]
    rates, distortions = ([getattr(p, name) for p in curve] for name in ("rate", "distortion"))
    assert (np.diff(rates, axis=0) > 0).all()
    assert (np.diff(distortions, axis=0) < 0).all()
    rate, distortion = guide_rate_distortion(model, guide, x, num_samples=2000)
    for beta, point in zip(betas, curve, strict=True):
        lowest = point.rate + beta * point.distortion  # -log Z_b
        assert (rate + beta * distortion > lowest - 0.1).all()


def test_the_guides_rate_is_the_closed_form(trained, digits):
    """KL of a diagonal Gaussian from the standard one; and the ELBO is minus the sum."""
    model, guide = trained
    x = digits.test_images[:110]  # more than one block
    with torch.no_grad():
        q = guide.q(x).base_dist
    kl = (0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()).sum(1).numpy()
    rate, distortion = guide_rate_distortion(model, guide, x, num_samples=1000)
    # the variance of log q - log p over q: sum of (s^2 - 1)^2 / 2 + (m s)^2
    s, m = q.scale.numpy(), q.loc.numpy()
    se = np.sqrt(((s**2 - 1) ** 2 / 2 + (m * s) ** 2).sum(1) / 1000)
    assert (np.abs(rate - kl) < 5.5 * se).all()  # 110 comparisons: one seed in 240,000
    elbo = log_likelihood(model, guide, x, num_samples=1000)
    assert abs((rate + distortion + elbo.elbo).mean()) < 0.5
    again = guide_rate_distortion(model, guide, x[:100], num_samples=1000)
    np.testing.assert_array_equal(rate[:100], again[0])


def test_the_guides_rate_is_from_the_models_own_prior(trained, digits):
    """The KL of two diagonal Gaussians, in closed form."""
    model, guide = trained
    x = digits.test_images[:50]
    with torch.no_grad():
        q = guide.q(x).base_dist
    s, m = q.scale.numpy() / 0.7, (q.loc.numpy() - 1) / 0.7  # in the prior's own units
    kl = (0.5 * (m**2 + s**2 - 1) - np.log(s)).sum(1)
    se = np.sqrt(((s**2 - 1) ** 2 / 2 + (m * s) ** 2).sum(1) / 1000)
    rate, _ = guide_rate_distortion(elsewhere(model), guide, x, num_samples=1000)
    assert (np.abs(rate - kl) < 5.5 * se).all()  # 50 comparisons: one seed in 500,000


def test_wrong_beta_is_one_clear_line(trained, digits):
    model, guide = trained
    for beta in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="beta must be a number from 1e-09"):
            model_rate_distortion(model, guide, digits.test_images[:2], beta=beta)
