"""Gauss and Newton's curvature, held against the Hessian where the decoder is linear in pieces."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.guides.gauss_newton import derivatives_of, gauss_newton
from pyro_vae.guides.laplace import curvature
from pyro_vae.guides.posterior import Posterior
from pyro_vae.likelihood.coordinates import coordinates_of
from pyro_vae.models import ContinuousBernoulli, GreyBernoulli

D, N = 3, 12
torch.manual_seed(0)
NET = nn.Sequential(nn.Linear(D, 20), nn.LeakyReLU(), nn.Linear(20, 2 * N)).double()
NET.requires_grad_(False)

# what the pixels are, given the network's outputs; for each, pixels of that kind
KINDS = {
    "Bernoulli": (lambda out: dist.Bernoulli(logits=out[..., :N]), torch.rand(5, N).round()),
    "grey": (lambda out: GreyBernoulli(logits=out[..., :N]), torch.rand(5, N)),
    "continuous": (lambda out: ContinuousBernoulli(logits=out[..., :N]), torch.rand(5, N)),
    "Binomial": (lambda out: dist.Binomial(9, logits=out[..., :N]), (9 * torch.rand(5, N)).round()),
    "Poisson": (lambda out: dist.Poisson(out[..., :N].exp()), (4 * torch.rand(5, N)).round()),
    "Normal": (lambda out: dist.Normal(out[..., :N], 0.3), torch.randn(5, N)),
}


def model_of(pixels, mask=None):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(D).double(), 1.5).to_event(1))
            q = pixels(NET(z))
            q = q if mask is None else q.mask(mask)
            pyro.sample("x", q.to_event(1), obs=x)

    return model


def posterior_of(model, x):
    return Posterior(model, [x.double()], coordinates_of(model, [x.double()], ["z"]), {})


def check(model, x):
    posterior = posterior_of(model, x)
    u = torch.randn(4, len(x), D).double()
    expected, found = curvature(posterior.log_joint, u), gauss_newton(posterior, u)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_hessian_of_a_piecewise_linear_decoder(kind):
    pixels, x = KINDS[kind]
    check(model_of(pixels), x)


def test_pixels_that_do_not_count_have_no_curvature():
    pixels, x = KINDS["Bernoulli"]
    check(model_of(pixels, torch.arange(N) < 5), x)


def test_it_is_the_expectation_of_the_hessian_where_the_scale_depends_on_z():
    """Over images drawn at z, minus the Hessian averages to it: within 5 standard errors."""

    def pixels(out):
        return dist.Normal(out[..., :N], (0.3 * out[..., N:]).exp())

    z = torch.randn(1, 1, D).double().expand(1, 4000, D)
    out = NET(z[0])
    x = pixels(out).sample()
    posterior = posterior_of(model_of(pixels), x)
    found = gauss_newton(posterior, z)[2][0]
    with torch.enable_grad():  # not `curvature`, which makes the Hessian positive definite
        at = z.clone().requires_grad_()
        (slope,) = torch.autograd.grad(posterior.log_joint(at).sum(), at, create_graph=True)
        rows = [
            torch.autograd.grad(slope[..., i].sum(), at, retain_graph=True)[0] for i in range(D)
        ]
    hessian = -torch.stack(rows, -2)[0]
    error = hessian.std(0) / len(x) ** 0.5
    assert ((hessian.mean(0) - found.mean(0)).abs() < 5 * error + 1e-9).all()
    assert (found - found[0]).abs().max() < 1e-9  # it does not depend on the image


def test_other_pixels_have_the_hessian():
    def pixels(out):
        return dist.StudentT(4.0, out[..., :N], 0.5)

    posterior = posterior_of(model_of(pixels), torch.randn(5, N))
    u = torch.randn(2, 5, D).double()
    assert gauss_newton(posterior, u) is None
    for a, b in zip(derivatives_of(posterior)(u), curvature(posterior.log_joint, u), strict=True):
        torch.testing.assert_close(a, b)


class NoForward(torch.autograd.Function):
    """The identity, without a derivative forward."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_a_network_without_derivatives_forward_has_the_hessian():
    posterior = posterior_of(
        model_of(lambda out: dist.Bernoulli(logits=NoForward.apply(out)[..., :N])),
        torch.rand(5, N).round(),
    )
    u = torch.randn(2, 5, D).double()
    assert gauss_newton(posterior, u) is None
    assert derivatives_of(posterior)(u)[2].shape == (2, 5, D, D)
