import pytest
import torch

from pyro_vae.analysis.sampling import guide_samples
from pyro_vae.errors import InputError
from pyro_vae.guides.exact import ExactGuide
from pyro_vae.likelihood.estimate import iwae
from pyro_vae.likelihood.importance import log_weights
from pyro_vae.likelihood.quadrature import integrate_plane
from pyro_vae.problems import LinearGaussian


def test_quadrature_is_exact_on_a_linear_gaussian_model():
    problem = LinearGaussian()
    x = problem.data(5)
    plane = integrate_plane(problem.model, x)
    torch.testing.assert_close(plane.log_evidence, problem.log_likelihood(x), atol=1e-9, rtol=0)
    loc, covariance = problem.posterior(x)
    exact = torch.distributions.MultivariateNormal(loc, covariance).log_prob(plane.z)
    torch.testing.assert_close(plane.log_posterior, exact, atol=1e-9, rtol=1e-9)
    total = (plane.log_posterior.exp() * plane.cell).sum(0)
    torch.testing.assert_close(total, torch.ones(5).double(), atol=1e-9, rtol=0)
    mean, sd = plane.moments()
    torch.testing.assert_close(mean, loc, atol=1e-9, rtol=0)
    variances = covariance.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(sd, variances.sqrt().expand(5, 2), atol=1e-9, rtol=0)


def test_quadrature_finds_a_narrow_posterior():
    """As narrow as the first grid's step."""
    problem = LinearGaussian(noise=0.05)
    x = problem.data(5)
    plane = integrate_plane(problem.model, x)
    torch.testing.assert_close(plane.log_evidence, problem.log_likelihood(x), atol=1e-8, rtol=0)


def test_quadrature_of_a_trained_network_does_not_depend_on_the_grid(trained, digits):
    model, _ = trained
    x = digits.test_images[:3]
    coarse, fine = (integrate_plane(model, x, points=n).log_evidence for n in (81, 161))
    torch.testing.assert_close(coarse, fine, atol=2e-3, rtol=0)


def test_wrong_arguments_are_named():
    problem = LinearGaussian()
    with pytest.raises(InputError, match="points must be a whole number >= 3"):
        integrate_plane(problem.model, problem.data(1), points=2)


def test_a_posterior_at_the_edge_of_the_grid_is_refused_and_a_wide_one_is_not():
    problem = LinearGaussian(noise=10.0)  # the posterior is nearly the prior
    x = problem.data(3)
    plane = integrate_plane(problem.model, x)
    torch.testing.assert_close(plane.log_evidence, problem.log_likelihood(x), atol=1e-6, rtol=0)
    assert (plane.z.amin(0) <= -6).all()
    assert (plane.z.amax(0) >= 6).all()
    far = torch.cat([x, x[:1] + 1000])
    for model, rows, options in ((problem.model, far, {}), (problem.model, x, {"half_width": 3.0})):
        with pytest.raises(
            InputError, match=r"reaches the edge of .* raise half_width, and points"
        ):
            integrate_plane(model, rows, **options)


def test_weights_under_the_exact_posterior_are_constant(trained, digits):
    """And equal p(x): to what the density moves within a cell, here 1%; on a Gaussian as well."""
    problem = LinearGaussian()
    x = problem.data(4)
    log_w = log_weights(problem.model, ExactGuide(problem.model), x, num_samples=500)
    assert log_w.std(0).max() < 0.05
    se = log_w.std(0) / 500**0.5
    log_p = iwae(log_w, 500)
    assert ((log_p - problem.log_likelihood(x)).abs() < 5 * se + 1e-3).all()
    model, guide = trained
    x = digits.test_images[:2]
    exact = log_weights(model, ExactGuide(model, points=161), x, num_samples=300)
    assert exact.std(0).max() < 0.1 < log_weights(model, guide, x, num_samples=300).std(0).min()


def test_draws_of_the_exact_posterior_have_its_moments():
    problem = LinearGaussian()
    x = problem.data(1)
    loc, covariance = problem.posterior(x)
    z = guide_samples(ExactGuide(problem.model), x, num_samples=20_000)[:, 0]
    white = torch.linalg.solve(torch.linalg.cholesky(covariance), (z - loc).T)
    assert (white.mean(1).abs() < 5 / 20_000**0.5).all()
    assert ((white.square().mean(1) - 1).abs() < 5 * (2 / 20_000) ** 0.5 + 1e-3).all()
    assert abs((white[0] * white[1]).mean()) < 5 / 20_000**0.5
