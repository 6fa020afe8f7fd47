import pytest
import torch

from pyro_vae.errors import InputError
from pyro_vae.quadrature import integrate_plane
from tests.problems import LinearGaussian


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
    with pytest.raises(InputError, match="points must be >= 3"):
        integrate_plane(problem.model, problem.data(1), points=2)
