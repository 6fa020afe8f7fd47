"""Gaussians fitted to scores: exact where the posterior is Gaussian, whatever they start from."""

import pyro.distributions as dist
import torch

from pyro_vae.guides.adaptive import adaptive_importance_sampling
from pyro_vae.guides.score_matching import (
    STEP,
    Gaussians,
    _moved,
    _normal_pairs,
    _regression,
    score_matching,
)
from pyro_vae.guides.student import StudentMixture
from pyro_vae.problems import LinearGaussian
from tests.shared import started


def divergence(problem, x, proposal, c):
    """KL of the Gaussian of component c from the posterior, `(B,)`."""
    loc, covariance = problem.posterior(x)
    q = dist.MultivariateNormal(proposal.loc[:, c], scale_tril=proposal.scale_tril[:, c])
    exact = dist.MultivariateNormal(loc, covariance)
    return torch.distributions.kl_divergence(q, exact)


def test_the_fit_comes_close_to_a_gaussian_posterior():
    """The ridge holds it back by a quarter of what the first round leaves."""
    problem = LinearGaussian(latent_dim=12, data_dim=30)
    x = problem.data(20)
    posterior, proposal = started(problem, x, [0.6, 1.5])
    fitted = score_matching(posterior, proposal)
    for c in (0, 1):
        before, after = (divergence(problem, x, q, c) for q in (proposal, fitted))
        assert (before > 0.5).all()
        assert (after < 0.05 * before).all()


def test_the_fit_of_an_image_does_not_depend_on_the_others():
    torch.manual_seed(0)
    white, score, value = (torch.randn(*s).double() for s in ((24, 3, 4), (24, 3, 4), (24, 3)))
    q = Gaussians(torch.randn(3, 4).double(), torch.eye(4).double().expand(3, 4, 4))
    whole = _moved(q, white, value, score)
    alone = _moved(Gaussians(*(part[:1] for part in q)), white[:, :1], value[:, :1], score[:, :1])
    for found, expected in zip(alone, whole, strict=True):
        torch.testing.assert_close(found, expected[:1])


def test_a_location_moves_two_standard_deviations_at_most():
    """Towards the mode m of a unit Gaussian, which the ridge shortens by less than a half."""
    torch.manual_seed(0)
    white = _normal_pairs(2, 2, 5).double()
    m = torch.tensor([[0, 1.0, 0, 0, 0], [30, 0, 0, 40, 0]]).double()
    shift, _ = _regression(white, m - white, torch.ones(len(white), 2).double())
    assert STEP == 2
    torch.testing.assert_close(shift[1], STEP * m[1] / 50, atol=0.2, rtol=0)
    assert 0.5 < shift[0, 1] < 1


class Rippled:
    """A standard normal posterior with ripples, whose gradients say nothing of what lies around."""

    def rows(self, rows):
        return self

    def log_joint(self, u):
        return -u.square().sum(-1) / 2 + (50 * u).cos().sum(-1)


def test_a_fit_that_makes_it_worse_is_taken_back():
    torch.manual_seed(0)
    like = torch.zeros(6).double()
    eye = torch.eye(12).double().expand(6, 1, 12, 12)
    start = StudentMixture(torch.zeros(6, 1, 12).double(), eye, torch.zeros(6, 1).double(), like)
    fitted = score_matching(Rippled(), start)
    q = dist.MultivariateNormal(fitted.loc[:, 0], scale_tril=fitted.scale_tril[:, 0])
    normal = dist.MultivariateNormal(torch.zeros(12).double(), torch.eye(12).double())
    assert (torch.distributions.kl_divergence(q, normal) < 3).all()


def test_a_component_that_is_switched_off_stays():
    problem = LinearGaussian()
    x = problem.data(4)
    posterior, proposal = started(problem, x, [0.6, 1.5])
    proposal.log_mixture_weights[:, 1] = -torch.inf
    fitted = score_matching(posterior, proposal)
    assert torch.equal(fitted.loc[:, 1], proposal.loc[:, 1])
    assert torch.equal(fitted.scale_tril[:, 1], proposal.scale_tril[:, 1])
    assert not torch.equal(fitted.loc[:, 0], proposal.loc[:, 0])
    assert torch.equal(fitted.log_mixture_weights, proposal.log_mixture_weights)


def test_the_draws_are_standard_normal_in_pairs_along_frames():
    """Tolerances are 5 standard errors of 2,000 images' moments: one seed in some 20,000 fails."""
    torch.manual_seed(0)
    draws = _normal_pairs(2, 2000, 5)
    assert draws.shape == (20, 2000, 5)
    assert torch.equal(draws[:10], -draws[10:])
    products = torch.einsum("kbi,lbi->klb", draws[:5], draws[:5])  # of a frame
    lengths = products.diagonal()
    assert torch.allclose(
        products - torch.diag_embed(lengths).movedim(0, -1), torch.zeros(1), 0, 1e-4
    )
    for moment, expected, variance in (
        (draws[4].square(), 1.0, 2.0),
        (draws[4, :, :1] * draws[4, :, 1:], 0.0, 1.0),
        (lengths, 5.0, 10.0),
    ):
        assert ((moment.mean(0) - expected).abs() < 5 * (variance / 2000) ** 0.5).all()


def test_in_many_dimensions_images_that_fail_are_fitted_to_scores():
    """Moments of 250 draws, of which few count, leave the proposal where it is."""
    torch.manual_seed(0)
    problem = LinearGaussian(latent_dim=12, data_dim=30)
    x = problem.data(5)
    posterior, proposal = started(problem, x, [0.4])
    fitted, result = adaptive_importance_sampling(posterior, proposal, (250,))
    assert (result.ess < 25).all()
    before, after = (divergence(problem, x, q, 0) for q in (proposal, fitted))
    assert (after < 0.01 * before).all()
