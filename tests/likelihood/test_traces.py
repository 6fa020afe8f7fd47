"""Programs that users of Pyro write, each against its exact log p(x); what cannot be is refused.

Estimates are within 5 of their standard errors: each image fails for one seed in 1.7 million.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import autoguide
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.annealing import annealed_log_likelihood
from pyro_vae.likelihood.importance import log_likelihood
from tests.programs import (
    COUNTS_DATA,
    LOMAX_DATA,
    W,
    counts,
    counts_exact,
    hierarchy,
    hierarchy_exact,
    linear,
    linear_data,
    linear_exact,
    linear_guide,
    lomax,
    lomax_exact,
    within,
)

QUICK = {"num_starts": 2, "samples_per_round": (100, 200)}


def auto_normal(model, x, std):
    """AutoNormal as made: at the prior's median, with one standard deviation in all."""
    guide = autoguide.AutoNormal(model, init_scale=std)
    guide(x)
    return guide


def at_posterior_mean(guide, x):
    """Set the locations to the linear model's posterior mean."""
    covariance = torch.linalg.inv(torch.eye(2) + W @ W.T / 0.25)
    guide.locs.z.data = x @ W.T / 0.25 @ covariance
    return guide


# --- auxiliary sites ------------------------------------------------------------------------


def doubled(x):
    """z = 2 u: log |dz / du| = 2 log 2."""
    with pyro.plate("data", x.shape[0]):
        base = dist.Normal(torch.zeros(2), 0.5).to_event(1)
        u = pyro.sample("u", base, infer={"is_auxiliary": True})
        log_density = torch.full((x.shape[0],), -2 * math.log(2.0))
        pyro.sample("z", dist.Delta(2 * u, log_density=log_density, event_dim=1))


def test_an_auxiliary_site_counts():
    x = linear_data(5)
    within(log_likelihood(linear, doubled, x, num_samples=20_000), linear_exact(x))


def test_an_auxiliary_draw_that_is_no_change_of_variables_is_refused():
    """q(z | x) would be an integral over u; p(x, z) / q(z, u | x) is no weight."""

    def noisy(x):
        with pyro.plate("data", x.shape[0]):
            base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
            u = pyro.sample("u", base, infer={"is_auxiliary": True})
            pyro.sample("z", dist.Normal(u, 1.0).to_event(1))

    def folded(x):
        with pyro.plate("data", x.shape[0]):
            base = dist.Normal(torch.zeros(4), 1.0).to_event(1)
            u = pyro.sample("u", base, infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(u[..., :2] + u[..., 2:], event_dim=1))

    for guide in (noisy, folded):
        for score in (log_likelihood, annealed_log_likelihood):
            with pytest.raises(InputError, match=r"auxiliary sites \['u'\].*change of variables"):
                score(linear, guide, linear_data(3))


def test_a_guide_that_samples_what_the_model_observes_is_refused():
    """Its weights would be of p(x), not of p(x, y)."""

    def model(x, y):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            y = pyro.sample("y", dist.Bernoulli(torch.tensor(0.5)), obs=y)
            pyro.sample("x", dist.Normal(z @ W + y[..., None], 0.5).to_event(1), obs=x)

    def guide(x, y):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Bernoulli(torch.tensor(0.5)))
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    x, y = linear_data(4), torch.tensor([0.0, 1, 0, 1])
    for num_samples in (1, 50):
        with pytest.raises(InputError, match="the guide samples 'y', which the model observes"):
            log_likelihood(model, guide, x, y, num_samples=num_samples)
    result = log_likelihood(model, lambda x, y: linear_guide(x - y[:, None]), x, y, num_samples=500)
    within(result, linear_exact(x - y[:, None]) - math.log(2))


# --- Pyro's autoguides ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "x", "exact", "std"),
    [
        (linear, linear_data(4), linear_exact, 0.7),
        (hierarchy, torch.tensor([[0.5, -1.0], [0.1, 0.3]]), hierarchy_exact, 1.2),
        (lomax, LOMAX_DATA[:4], lomax_exact, 1.0),
        (counts, COUNTS_DATA, counts_exact, 0.8),
    ],
)
def test_auto_normal_over_any_support(model, x, exact, std):
    """Untrained: real, positive, and on a simplex, where it draws fewer numbers."""
    guide = auto_normal(model, x, std)
    within(log_likelihood(model, guide, x, num_samples=40_000), exact(x))


def test_auto_normal_of_many_images_is_scored_whole():
    """So many samples that images are cut into blocks elsewhere: each meets its own numbers."""
    x = linear_data(60)
    guide = at_posterior_mean(auto_normal(linear, x, 0.4), x)
    within(log_likelihood(linear, guide, x, num_samples=4000), linear_exact(x))
    result = annealed_log_likelihood(linear, guide, x, num_chains=16, num_steps=10)
    within(result, linear_exact(x))


def test_auto_normal_of_other_images_is_refused():
    guide = auto_normal(linear, linear_data(6), 0.5)
    for score in (log_likelihood, annealed_log_likelihood):
        with pytest.raises(InputError, match="'z_unconstrained' is of 6 images, and 4 were given"):
            score(linear, guide, linear_data(4))


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize(
    ("family", "options"),
    [
        (autoguide.AutoDiagonalNormal, {}),
        (autoguide.AutoMultivariateNormal, {}),
        (autoguide.AutoLowRankMultivariateNormal, {}),
        (autoguide.AutoLaplaceApproximation, {}),
        (autoguide.AutoIAFNormal, {"hidden_dim": [40]}),
    ],
)
def test_autoguides_that_join_all_images_are_refused(family, options, count):
    with pytest.raises(InputError, match=r"for all . images together.*AutoNormal.*Refined") as said:
        log_likelihood(linear, family(linear, **options), linear_data(count))
    assert "\n" not in str(said.value)
    assert not pyro.get_param_store().keys()


@pytest.mark.parametrize("family", [autoguide.AutoDelta, autoguide.AutoMultivariateNormal])
def test_they_start_the_refined_guide(family):
    x = linear_data(4)
    refined = Refined(linear, family(linear), **QUICK)
    within(log_likelihood(linear, refined, x, num_samples=500), linear_exact(x))


def parts(*families):
    """An AutoGuideList of one guide for each latent of the hierarchy."""
    guide = autoguide.AutoGuideList(hierarchy)
    for name, (family, options) in zip(("z1", "z2"), families, strict=True):
        guide.append(family(poutine.block(hierarchy, expose=[name]), **options))
    return guide


def test_points_are_refused_also_as_a_part():
    """Beside a part with a density: a point is still one, though auxiliary sites are drawn."""
    normal, point = (autoguide.AutoNormal, {"init_scale": 1.2}), (autoguide.AutoDelta, {})
    x = torch.tensor([[0.5, -1.0], [0.1, 0.3]])
    with pytest.raises(InputError, match=r"\['z'\] at a point.*AutoNormal in place of.*Refined"):
        log_likelihood(linear, autoguide.AutoDelta(linear), linear_data(3))
    for num_samples in (1, 50):
        with pytest.raises(InputError, match=r"\['z2'\] at a point"):
            log_likelihood(hierarchy, parts(normal, point), x, num_samples=num_samples)
    with pytest.raises(InputError, match=r"\['z2'\] at a point"):
        annealed_log_likelihood(hierarchy, parts(normal, point), x)
    whole = log_likelihood(hierarchy, parts(normal, normal), x, num_samples=40_000)
    within(whole, hierarchy_exact(x))


# --- a user's own numbers for each image ----------------------------------------------------


class Own(nn.Module):
    def __init__(self, x):
        super().__init__()
        covariance = torch.linalg.inv(torch.eye(2) + W @ W.T / 0.25)
        self.loc = nn.Parameter(x @ W.T / 0.25 @ covariance)

    def forward(self, x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(self.loc, 0.4).to_event(1))


def own_in_the_store(x):
    loc = pyro.param("loc", lambda: Own(x).loc.detach())
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal(loc, 0.4).to_event(1))


@pytest.mark.parametrize("kept", [True, False])
def test_numbers_of_each_image_in_a_users_guide(kept):
    x = linear_data(60)
    if not kept:
        own_in_the_store(x)
    guide = Own(x) if kept else own_in_the_store
    within(log_likelihood(linear, guide, x, num_samples=4000), linear_exact(x))


# --- networks that take one leading dimension -----------------------------------------------

MIX = 0.5 * torch.randn(2, 18, generator=torch.Generator().manual_seed(2))


class Upwards(nn.Module):
    """z @ MIX by the usual ConvTranspose2d."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 2, 3, bias=False)
        self.up.weight.data = MIX.view(2, 2, 3, 3)

    def forward(self, z):
        return self.up(z.view(-1, 2, 1, 1)).flatten(1)


def first_columns(z):
    return torch.stack([z[:, 0], z[:, 1]], 1) @ MIX


def concatenated(z):
    return torch.cat([z, torch.ones(len(z), 1)], 1)[:, :2] @ MIX


def normalised(z):
    """Softmax over dimension 1, undone by the logarithm but for a constant in each image."""
    log_p = torch.log_softmax(z, 1)
    return (log_p + torch.logsumexp(z, 1, keepdim=True)) @ MIX


def centred(z):
    """The mean over dimension 1 is of the wrong numbers where samples come first; no error."""
    return (z - z.mean(1, keepdim=True) + z.mean(1, keepdim=True)) @ MIX + 0 * z.sum()


def softmaxed(z):
    return torch.softmax(z, 1) @ MIX


def decoded(decoder):
    def model(x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 0.5).to_event(1), obs=x)

    return model


def encode(x):
    covariance = torch.linalg.inv(torch.eye(2) + MIX @ MIX.T / 0.25)
    with pyro.plate("data", x.shape[0]):
        loc = x @ MIX.T / 0.25 @ covariance
        pyro.sample("z", dist.MultivariateNormal(loc, 1.5 * covariance))


@pytest.mark.parametrize("decoder", [Upwards(), first_columns, concatenated, normalised, centred])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_decoders_of_one_leading_dimension(decoder, count):
    """As many samples as images too: a wrong dimension has the right size then."""
    x = torch.randn(count, 2) @ MIX + 0.5 * torch.randn(count, 18)
    exact = dist.MultivariateNormal(torch.zeros(18), MIX.T @ MIX + 0.25 * torch.eye(18)).log_prob(x)
    model = decoded(decoder)
    within(log_likelihood(model, encode, x, num_samples=1000), exact)
    pair = log_likelihood(model, encode, x.repeat(200 // count, 1), num_samples=count)
    ratio = np.exp(pair.value - exact.repeat(200 // count).numpy())
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(len(ratio))


def test_a_decoder_that_is_silently_wrong_with_samples_first():
    """Softmax over dimension 1, by quadrature in the difference of the two latents."""
    x = torch.rand(3, 18)
    model = decoded(softmaxed)
    difference = torch.linspace(-12, 12, 4001).double()
    z = torch.stack([difference, torch.zeros_like(difference)], 1)
    mean = torch.softmax(z, 1) @ MIX.double()
    log_p = dist.Normal(mean[:, None], 0.5).log_prob(x.double()).sum(-1)
    log_p = log_p + dist.Normal(0.0, math.sqrt(2)).log_prob(difference)[:, None]
    exact = log_p.logsumexp(0) + math.log(24 / 4000)

    def prior(x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    within(log_likelihood(model, prior, x, num_samples=2000), exact)


def test_such_a_decoder_is_refined_and_annealed():
    x = torch.randn(3, 2) @ MIX + 0.5 * torch.randn(3, 18)
    exact = dist.MultivariateNormal(torch.zeros(18), MIX.T @ MIX + 0.25 * torch.eye(18)).log_prob(x)
    model = decoded(Upwards())
    refined = Refined(model, encode, **QUICK)
    within(log_likelihood(model, refined, x, num_samples=500), exact)
    within(annealed_log_likelihood(model, encode, x, num_steps=10), exact)


def test_a_guide_whose_second_network_takes_one_leading_dimension():
    turn = nn.Conv1d(2, 2, 1, bias=False)
    turn.weight.data = 0.5 * torch.eye(2)[..., None]

    def guide(x):
        with pyro.plate("data", x.shape[0]):
            z1 = pyro.sample("z1", dist.Normal(0.9 * x, 0.6).to_event(1))
            pyro.sample("z2", dist.Normal(turn(z1.view(-1, 2, 1))[..., 0], 0.8).to_event(1))

    x = torch.randn(5, 2)
    within(log_likelihood(hierarchy, guide, x, num_samples=4000), hierarchy_exact(x))


# --- scales and masks -----------------------------------------------------------------------


def test_scaled_and_subsampled_programs_are_scored_unscaled():
    """Also where the plate says that the batch is a part of more images."""

    def warm(x):
        with pyro.plate("data", 1000, subsample=x), poutine.scale(scale=0.1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ W, 0.5).to_event(1), obs=x)

    x = linear_data(5)
    guide = poutine.scale(linear_guide, scale=0.1)
    within(log_likelihood(warm, guide, x, num_samples=500), linear_exact(x))
    within(annealed_log_likelihood(warm, guide, x, num_steps=20), linear_exact(x))
    within(log_likelihood(warm, Refined(warm, guide, **QUICK), x), linear_exact(x))


def test_evaluation_mode_everywhere():
    """Dropout and batch norm: the same as with them taken out, and the statistics stay."""
    norm = nn.BatchNorm1d(5)
    norm.running_mean.copy_(torch.ones(5))
    drop = nn.Dropout(0.5)

    def model(x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(drop(z @ W), 0.5).to_event(1), obs=x)

    def guide(x):
        linear_guide(norm(x) * (1 + 1e-5) ** 0.5 + 1)

    x = linear_data(5)
    for refined in (guide, Refined(model, guide, **QUICK)):
        within(log_likelihood(model, refined, x, num_samples=500), linear_exact(x))
    within(annealed_log_likelihood(model, guide, x, num_steps=20), linear_exact(x))
    assert torch.equal(norm.running_mean, torch.ones(5))
    assert norm.training
    assert drop.training
