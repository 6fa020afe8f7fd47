"""At the edges of float32: extreme images, guides, weights and sizes, held against float64.

Each test scores the same latents twice, in float32 and in float64, so that no tolerance here is
statistical unless the test says so.
"""

import copy
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import estimate
from pyro_vae.likelihood.importance import log_joint_in_chunks, log_likelihood, log_weights
from pyro_vae.likelihood.traces import draw
from pyro_vae.problems import LinearGaussian
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae, load_vae
from tests.conftest import CHECKPOINTS

IMAGES = torch.stack(
    [
        torch.zeros(1, 28, 28),
        torch.ones(1, 28, 28),
        torch.full((1, 28, 28), 0.5),
        torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0)).round(),
        torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(1)),
    ]
)


def vae(latent_dim, saturation=1.0):
    """Random weights; the logits are `saturation` times what they would be."""
    torch.manual_seed(0)
    model, guide = build_vae(latent_dim, "float32")
    for w in model.decoder.f[-1].parameters():
        w.data *= saturation
    return model, guide


class At(nn.Module):
    """A guide at the same place for every image: z ~ N(loc, exp(log_var) I_d)."""

    def __init__(self, latent_dim, loc, log_var):
        super().__init__()
        self.loc = nn.Parameter(torch.full((latent_dim,), float(loc)))
        self.log_var = nn.Parameter(torch.full((latent_dim,), float(log_var)))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.loc, (self.log_var / 2).exp()).to_event(1))


def in_float64(model, guide, x, num_samples):
    """Log weights in float32, `(K, B)`, and in float64 at the same latents."""
    torch.manual_seed(1)
    with torch.no_grad():
        latents, log_q = draw(guide, [x], num_samples)
        found = log_joint_in_chunks(model, [x], latents) - log_q.double()
        doubled = {name: z.double() for name, z in latents.items()}
        wide, narrow = copy.deepcopy(model).double(), copy.deepcopy(guide).double()
        log_p = log_joint_in_chunks(wide, [x.double()], doubled)
        condition = pyro.poutine.condition(narrow, data=doubled)
        trace = pyro.poutine.trace(
            pyro.plate("particles", num_samples, dim=-2)(condition)
        ).get_trace(x.double())
        trace.compute_log_prob()
        return found, log_p - trace.nodes["z"]["log_prob"]


@pytest.mark.parametrize("latent_dim", [1, 4, 64])
@pytest.mark.parametrize("saturation", [1.0, 1e3, 1e6])
def test_extreme_images_and_saturated_pixels(latent_dim, saturation):
    model, guide = vae(latent_dim, saturation)
    found, exact = in_float64(model, guide, IMAGES, 20)
    assert found.isfinite().all()
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("loc", "log_var"), [(0, -30), (3, -60), (0, 20), (1e4, 0)])
def test_guides_that_are_very_narrow_very_wide_or_far_away(loc, log_var):
    """Narrower than float32 can tell z from loc, log q must still be that of the z used."""
    model, _ = vae(4)
    found, exact = in_float64(model, At(4, loc, log_var), IMAGES, 20)
    assert found.isfinite().all()
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("value", [-1e6, 1e6])
def test_log_weights_of_any_size(value):
    """The estimate is moved by exactly what all log weights are moved by."""
    log_w = torch.randn(50, 3, dtype=torch.float64)
    here, there = estimate(log_w), estimate(log_w + value)
    np.testing.assert_allclose(there.value - value, here.value, atol=1e-8)
    np.testing.assert_allclose(there.se, here.se, rtol=1e-6)
    np.testing.assert_allclose(there.khat, here.khat, atol=1e-6)


@pytest.mark.parametrize("latent_dim", [1, 64])
def test_the_refined_guide_at_both_ends_of_d(latent_dim):
    """Finite, and never below the amortised guide by more than its error (fails 1 in 10^6)."""
    model, guide = vae(latent_dim, 30.0)
    refined = log_likelihood(
        model, Refined(model, guide, num_starts=2, samples_per_round=(100, 100)), IMAGES
    )
    amortised = log_likelihood(model, guide, IMAGES)
    assert np.isfinite(refined.value).all()
    assert np.isfinite(refined.khat).all()
    error = np.hypot(refined.se, amortised.se)
    assert (refined.value > amortised.value - 5 * error - 1e-3).all()


@pytest.mark.parametrize("latent_dim", [1, 64])
def test_training_on_extreme_images_stays_finite(latent_dim):
    model, guide = vae(latent_dim)
    history = fit(model, guide, (IMAGES.repeat(4, 1, 1, 1),), epochs=30, progress=False)
    assert all(math.isfinite(row["train_elbo"]) for row in history)
    assert history[-1]["train_elbo"] > history[0]["train_elbo"]


def test_one_sample_and_a_hundred_thousand():
    """K = 1 has no error to tell; K = 100,000 is within 5 of its errors (fails 1 in 10^6)."""
    problem = LinearGaussian()
    x = problem.data(2)
    exact = problem.log_likelihood(x).numpy()
    one = log_likelihood(problem.model, problem.wide_guide, x, num_samples=1)
    assert np.isfinite(one.value).all()
    assert np.isnan(one.se).all()
    np.testing.assert_array_equal(one.value, one.elbo)
    many = log_likelihood(problem.model, problem.wide_guide, x, num_samples=100_000)
    assert (np.abs(many.value - exact) < 5 * many.se).all()
    assert (many.se < 0.01).all()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_samples_and_ten_thousand_images_of_a_trained_network(digits):
    """Every log weight, and what they add up to, as in float64."""
    model, guide, _ = load_vae(CHECKPOINTS / "d4.pt")
    guide.encoder.precision = "float32"  # for both
    images = torch.cat([digits.train_images, digits.test_images])
    found, exact = in_float64(model, guide, images[:1], 100_000)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(estimate(found).value, estimate(exact).value, atol=1e-4)
    many = torch.cat([images * shade for shade in (1, 0.9, 0.8, 0.7, 0.6, 0.5)])[:10_000]
    found, exact = in_float64(model, At(4, 0, 0), many, 1)
    assert len(many) == found.shape[1] == 10_000
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-3)


def test_a_refined_proposal_is_rounded_and_scored_as_one(digits):
    """In float32 as in float64: log q is that of the draw as rounded, by the same proposal."""
    model, guide, _ = load_vae(CHECKPOINTS / "d4.pt")
    x = digits.test_images[:3]
    options = {"num_starts": 1, "newton_steps": 1, "samples_per_round": (100, 100)}
    (proposal,) = Refined(model, guide, **options).fit(x).proposals
    z = proposal.sample((100,))
    assert z.dtype == torch.float32
    found = log_joint_in_chunks(model, [x], {"z": z}) - proposal.log_prob(z)
    wide = copy.deepcopy(model).double()
    exact = log_joint_in_chunks(wide, [x.double()], {"z": z.double()}) - proposal.log_prob(
        z.double()
    )
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-3)


def test_one_image_and_ten_thousand():
    """The same image 10,000 times: scores differ by their errors alone (fails 1 in 10^6)."""
    problem = LinearGaussian()
    x = problem.data(1)
    exact = float(problem.log_likelihood(x))
    assert log_weights(problem.model, problem.wide_guide, x, num_samples=3).shape == (3, 1)
    found = log_likelihood(problem.model, problem.wide_guide, x.expand(10_000, -1), num_samples=3)
    p = np.exp(found.value - exact)  # unbiased on this scale
    assert abs(p.mean() - 1) < 5 * p.std() / 100
