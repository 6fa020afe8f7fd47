"""The pixels' likelihoods: the grey score, and the continuous Bernoulli against quadrature."""

import math

import pyro.distributions as dist
import pytest
import torch

from pyro_vae.models import ContinuousBernoulli, GreyBernoulli
from pyro_vae.networks.precision import softplus

LOGITS = [-60.0, -20.0, -1.0, -0.1, -0.05, 0.0, 0.0999, 0.1001, 3.0, 20.0, 60.0]


@pytest.mark.parametrize("logit", LOGITS)
def test_the_continuous_bernoulli_integrates_to_one(logit):
    """Trapezoid rule on nodes that crowd to both ends, where a steep density has its mass."""
    u = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    x = u**3 * (10 - 15 * u + 6 * u**2)
    density = ContinuousBernoulli(logits=torch.tensor(logit, dtype=torch.float64)).log_prob(x).exp()
    assert float(torch.trapezoid(density, x)) == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("logit", LOGITS)
def test_float32_agrees_with_float64(logit):
    x = torch.linspace(0, 1, 11)
    exact = ContinuousBernoulli(logits=torch.tensor(logit).double()).log_prob(x.double())
    found = ContinuousBernoulli(logits=torch.tensor(logit)).log_prob(x)
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-6)


def test_it_is_torchs_where_that_is_right():
    logits, x = torch.linspace(-10, 10, 41).double(), torch.rand(41).double()
    expected = dist.ContinuousBernoulli(logits=logits).log_prob(x)
    torch.testing.assert_close(
        ContinuousBernoulli(logits=logits).log_prob(x), expected, atol=1e-4, rtol=1e-4
    )
    # and at a saturated pixel, torch's is nats too low
    far, black = torch.tensor(-60.0), torch.tensor(0.0)
    exact = math.log(60)  # density |l| e^(l x) at x = 0
    assert float(ContinuousBernoulli(logits=far).log_prob(black)) == pytest.approx(exact, abs=1e-5)
    assert float(dist.ContinuousBernoulli(logits=far).log_prob(black)) < exact - 1


def test_its_first_two_derivatives_are_finite_everywhere():
    logits = torch.tensor(LOGITS, requires_grad=True)
    value = ContinuousBernoulli(logits=logits).log_prob(torch.full((len(LOGITS),), 0.3)).sum()
    (first,) = torch.autograd.grad(value, logits, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), logits)
    assert first.isfinite().all()
    assert second.isfinite().all()
    # minus the variance, at most that of the uniform distribution
    assert (second <= 0).all()
    assert (second >= -1 / 12 - 1e-5).all()


@pytest.mark.parametrize("grad", [False, True])
def test_softplus_is_exact(grad):
    """As it is computed with and without gradients; in float32 to 1e-7."""
    ends = [-math.inf, -800.0, -100.0, 25.0, 100.0, 800.0, math.inf]
    l64 = torch.tensor([*LOGITS, *ends], dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        exact = torch.logaddexp(l64, torch.zeros(()).double())
        torch.testing.assert_close(softplus(l64), exact, rtol=1e-15, atol=1e-15)
        assert softplus(torch.tensor(math.nan)).isnan()
        error = softplus(l64.float()).double() - exact
    assert (error[:-1].abs() <= 1e-7 * l64[:-1].clamp(min=1)).all()


def test_softplus_has_the_right_first_two_derivatives():
    """At 0 too, where |l| has none of its own."""
    ends = [-800.0, -100.0, 25.0, 100.0, 800.0, math.inf]
    logits = torch.tensor([*LOGITS, *ends], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(softplus(logits).sum(), logits, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), logits)
    p = logits.sigmoid().detach()
    torch.testing.assert_close(first.detach(), p, rtol=0, atol=1e-15)
    torch.testing.assert_close(second, p * (1 - p), rtol=0, atol=1e-15)


def test_grey_pixels_score_what_the_appendix_gives_them():
    x, logits = torch.tensor([0.0, 0.25, 1.0]), torch.tensor([-1.0, 2.0, 0.5])
    p = torch.sigmoid(logits)
    expected = x * p.log() + (1 - x) * (1 - p).log()
    torch.testing.assert_close(GreyBernoulli(logits=logits).log_prob(x), expected)


@pytest.mark.parametrize("pixels", [GreyBernoulli, ContinuousBernoulli])
@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_a_pixel_outside_the_unit_interval_is_an_error(pixels, bad):
    with pytest.raises(ValueError, match="support"):
        pixels(logits=torch.zeros(1), validate_args=True).log_prob(torch.tensor([bad]))
