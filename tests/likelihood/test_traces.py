"""Programs that users of Pyro write, each against its exact log p(x); what cannot be is refused.

Estimates are within 5 of their standard errors: each image fails for one seed in 1.7 million.
"""

import math

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
from pyro_vae.likelihood.traces import log_joint, only, simulate
from tests.programs import (
    COUNTS_DATA,
    LOMAX_DATA,
    W,
    auxiliary_guide,
    counts,
    counts_exact,
    hierarchy,
    hierarchy_exact,
    linear,
    linear_data,
    linear_exact,
    linear_guide,
    linear_posterior,
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
    guide.locs.code.data, _ = linear_posterior(x)
    return guide


# --- K samples of an image ------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        lambda z, count: z.view(count, 2),  # raises in a plate of samples
        lambda z, count: z.flatten(0, -2)[:count],  # sees the first sample alone there
    ],
)
def test_a_program_of_one_leading_dimension_runs_on_copies_of_the_images(rows):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("code", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("seen", dist.Normal(rows(z, len(x)) @ W, 0.5).to_event(1), obs=x)

    x, z = linear_data(4), torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    expected = [log_joint(linear, [x], {"code": one[None]})[0] for one in z]
    torch.testing.assert_close(log_joint(model, [x], {"code": z}), torch.stack(expected))


def test_a_guide_of_several_latents_has_no_only_one():
    z = torch.zeros(3, 4, 2)
    assert only({"z": z}) is z
    with pytest.raises(InputError, match="one latent site here"):
        only({"z": z, "a": z})


def test_images_are_simulated_with_their_latents():
    """x = z W + noise of 0.5, exactly: the residuals of 5,000 images have that spread."""
    x, latents = simulate(linear, torch.zeros(5000, 5))
    assert latents.keys() == {"code"}
    residuals = x - latents["code"] @ W
    assert residuals.std() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(2 * residuals.numel()))
    for wrong in (linear_guide, lambda x: pyro.sample("seen", dist.Normal(0, 1), obs=x)):
        with pytest.raises(InputError, match="latent sites and one observed site"):
            simulate(wrong, torch.zeros(3, 5))


# --- auxiliary sites ------------------------------------------------------------------------


def test_an_auxiliary_site_counts():
    x = linear_data(5)
    within(log_likelihood(linear, auxiliary_guide, x, num_samples=20_000), linear_exact(x))


def test_an_auxiliary_draw_that_is_no_change_of_variables_is_refused():
    """q(z | x) would be an integral over u; p(x, z) / q(z, u | x) is no weight."""

    def noisy(x):
        with pyro.plate("data", x.shape[0]):
            base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
            u = pyro.sample("u", base, infer={"is_auxiliary": True})
            pyro.sample("code", dist.Normal(u, 1.0).to_event(1))

    def folded(x):
        with pyro.plate("data", x.shape[0]):
            base = dist.Normal(torch.zeros(4), 1.0).to_event(1)
            u = pyro.sample("u", base, infer={"is_auxiliary": True})
            pyro.sample("code", dist.Delta(u[..., :2] + u[..., 2:], event_dim=1))

    for guide in (noisy, folded):
        for score in (log_likelihood, annealed_log_likelihood):
            with pytest.raises(InputError, match=r"auxiliary sites \['u'\].*change of variables"):
                score(linear, guide, linear_data(3))


def test_a_guide_that_samples_what_the_model_observes_is_refused():
    """Its weights would be of p(x), not of p(x, y)."""

    def model(x, y):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("code", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            y = pyro.sample("y", dist.Bernoulli(torch.tensor(0.5)), obs=y)
            pyro.sample("x", dist.Normal(z @ W + y[..., None], 0.5).to_event(1), obs=x)

    def guide(x, y):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Bernoulli(torch.tensor(0.5)))
            pyro.sample("code", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    x, y = linear_data(4), torch.tensor([0.0, 1, 0, 1])
    for num_samples in (1, 50):
        with pytest.raises(InputError, match="the guide samples 'y', which the model observes"):
            log_likelihood(model, guide, x, y, num_samples=num_samples)
    result = log_likelihood(model, lambda x, y: linear_guide(x - y[:, None]), x, y, num_samples=500)
    within(result, linear_exact(x - y[:, None]) - math.log(2))


@pytest.mark.parametrize("d", [1, 3])
def test_a_latent_of_another_shape_in_the_guide_is_refused(d):
    """One number for two would broadcast, and be a wrong density in silence."""

    def model(x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 0.5).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(torch.zeros(d), 1.0).to_event(1))

    x = torch.ones(4, 1)
    said = rf"latent 'z' of an image has shape \({d},\) in the guide and \(2,\) in the model: "
    for num_samples in (1, 50):
        with pytest.raises(InputError, match=said):
            log_likelihood(model, guide, x, num_samples=num_samples)
    with pytest.raises(InputError, match=said):
        log_likelihood(model, Refined(model, guide), x)
    with pytest.raises(InputError, match=said):
        annealed_log_likelihood(model, guide, x)


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
        with pytest.raises(InputError, match="_unconstrained' is of 6 images, and 4 were given"):
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
    for name, (family, options) in zip(("middle", "top"), families, strict=True):
        guide.append(family(poutine.block(hierarchy, expose=[name]), **options))
    return guide


def test_points_are_refused_also_as_a_part():
    """Beside a part with a density: a point is still one, though auxiliary sites are drawn."""
    normal, point = (autoguide.AutoNormal, {"init_scale": 1.2}), (autoguide.AutoDelta, {})
    x = torch.tensor([[0.5, -1.0], [0.1, 0.3]])
    with pytest.raises(InputError, match=r"\['code'\] at a point.*AutoNormal in place of.*Refined"):
        log_likelihood(linear, autoguide.AutoDelta(linear), linear_data(3))
    for num_samples in (1, 50):
        with pytest.raises(InputError, match=r"\['top'\] at a point"):
            log_likelihood(hierarchy, parts(normal, point), x, num_samples=num_samples)
    with pytest.raises(InputError, match=r"\['top'\] at a point"):
        annealed_log_likelihood(hierarchy, parts(normal, point), x)
    whole = log_likelihood(hierarchy, parts(normal, normal), x, num_samples=40_000)
    within(whole, hierarchy_exact(x))


# --- a user's own numbers for each image ----------------------------------------------------


class Own(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.loc = nn.Parameter(linear_posterior(x)[0])

    def forward(self, x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("code", dist.Normal(self.loc, 0.4).to_event(1))


def own_in_the_store(x):
    loc = pyro.param("loc", lambda: Own(x).loc.detach())
    with pyro.plate("data", x.shape[0]):
        pyro.sample("code", dist.Normal(loc, 0.4).to_event(1))


@pytest.mark.parametrize("kept", [True, False])
def test_numbers_of_each_image_in_a_users_guide(kept):
    x = linear_data(60)
    if not kept:
        own_in_the_store(x)
    guide = Own(x) if kept else own_in_the_store
    within(log_likelihood(linear, guide, x, num_samples=4000), linear_exact(x))


# --- scales and masks -----------------------------------------------------------------------


def test_scaled_and_subsampled_programs_are_scored_unscaled():
    """Also where the plate says that the batch is a part of more images."""

    def warm(x):
        with pyro.plate("data", 1000, subsample=x), poutine.scale(scale=0.1):
            z = pyro.sample("code", dist.Normal(torch.zeros(2), 1.0).to_event(1))
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
            z = pyro.sample("code", dist.Normal(torch.zeros(2), 1.0).to_event(1))
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
