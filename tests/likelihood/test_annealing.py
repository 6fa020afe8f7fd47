"""Annealing held against closed forms and quadrature.

Statistical tolerances are 5 standard errors: each comparison fails for one seed in 1.7 million.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from pyro_vae.errors import InputError
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood import annealing
from pyro_vae.likelihood.annealing import (
    _anneal,
    _hmc,
    _path,
    annealed_log_likelihood,
    bidirectional_bounds,
)
from pyro_vae.likelihood.annealing import _evaluate as evaluate
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.quadrature import integrate_plane
from pyro_vae.likelihood.traces import simulate
from pyro_vae.problems import LinearGaussian
from tests import programs as known
from tests.shared import off_by


@pytest.fixture(scope="module")
def problem():
    return LinearGaussian()


@pytest.mark.parametrize("guide", [None, "wide_guide", "shifted_guide"])
def test_forward_weights_are_unbiased(problem, guide):
    """E[exp(gain)] = p(x), at as few as 5 temperatures, over 2,000 runs of one chain."""
    x = problem.data(1).expand(2000, -1)
    exact = problem.log_likelihood(x[:1])
    start = getattr(problem, guide) if guide else None
    result = annealed_log_likelihood(problem.model, start, x, num_chains=1, num_steps=5)
    assert abs(off_by(np.exp(result.value - exact.numpy()), 1)) < 5


def test_more_steps_tighten_the_bound(problem):
    x = problem.data(200)
    exact = problem.log_likelihood(x).numpy()
    gaps = [
        (exact - annealed_log_likelihood(problem.model, None, x, num_chains=1, num_steps=n).value)
        for n in (3, 10, 100)
    ]
    assert gaps[0].mean() > gaps[1].mean() > gaps[2].mean()
    assert gaps[2].mean() < 1


def test_hmc_leaves_its_density_invariant(problem):
    """Exact posterior draws after 3 moves still have the posterior's mean and covariance."""
    x = problem.data(1).expand(4000, -1)
    loc, covariance = problem.posterior(x[:1])
    path = _path(problem.model, problem.wide_guide, [x])
    z = torch.distributions.MultivariateNormal(loc[0], covariance).sample((1, 4000))
    ends, gradients = evaluate(path, z)
    for _ in range(3):
        z, ends, gradients, accepted = _hmc(path, z, ends, gradients, 1.0, torch.full((4000,), 0.7))
    assert 0.5 < accepted.mean() < 0.999
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), (z[0] - loc).T, upper=False
    ).T
    for moment, expected in [(white, 0), (white**2, 1), (white[:, :1] * white[:, 1:], 0)]:
        for column in moment.T:
            assert abs(off_by(column, expected)) < 5


def test_both_bounds_are_unbiased_and_enclose(problem):
    """E[exp(forward)] = p(x) and E[exp(-backward)] = 1 / p(x), each on simulated images."""
    result = bidirectional_bounds(problem.model, problem.wide_guide, torch.zeros(3000, 5).double(),
                      num_chains=1, num_steps=8)  # fmt: skip
    exact = problem.log_likelihood(result.images)
    lower, upper = torch.from_numpy(result.lower.value), -torch.from_numpy(result.upper.value)
    assert abs(off_by(torch.exp(lower - exact), 1)) < 5
    assert abs(off_by(torch.exp(exact - upper), 1)) < 5
    assert off_by(exact - lower, 0) > 5
    assert off_by(upper - exact, 0) > 5


def test_reverse_chains_take_the_forward_steps_backwards(problem, monkeypatch):
    taken = []

    def record(path, z, betas, steps, bar):
        result = _anneal(path, z, betas, steps, bar)
        taken.append((betas, steps, result[1]))
        return result

    monkeypatch.setattr(annealing, "_anneal", record)
    bidirectional_bounds(problem.model, None, problem.data(2), num_chains=4, num_steps=6)
    (_, _, piloted), (up, forward, _), (down, backward, _) = taken
    assert len({*piloted[:, 0].tolist()}) > 3  # else reversing them would show nothing
    torch.testing.assert_close(forward, piloted, rtol=0, atol=0)
    torch.testing.assert_close(backward, piloted.flip(0), rtol=0, atol=0)
    torch.testing.assert_close(down, up.flip(0), rtol=0, atol=0)


def test_simulated_images_have_the_models_distribution(problem):
    x, latents = simulate(problem.model, torch.zeros(5000, 5).double())
    z = latents["z"]
    assert x.shape == (5000, 5)
    assert z.shape == (5000, 2)
    residual = (x - z @ problem.w.T) / problem.noise
    for column in (*residual.T, *z.T):
        assert abs(off_by(column, 0)) < 5
        assert abs(off_by(column**2, 1)) < 5


def test_trained_network_between_quadrature(trained, digits):
    """At d = 2 the bounds enclose the exact value within 5 of their standard errors."""
    model, guide = trained
    x = digits.test_images[:4]
    result = bidirectional_bounds(model, guide, x, num_chains=30, num_steps=20)
    exact = integrate_plane(model, result.images, points=101).log_evidence.numpy()
    lower, upper = result.lower.value, -result.upper.value
    assert (lower < exact + 5 * result.lower.se).all()
    assert (upper > exact - 5 * result.upper.se).all()
    assert (np.abs(upper - lower) < 2).all()
    real = annealed_log_likelihood(model, guide, x, num_chains=30, num_steps=20)
    exact = integrate_plane(model, x, points=101).log_evidence.numpy()
    assert (np.abs(real.value - exact) < 5 * real.se).all()


def test_it_agrees_with_the_refined_guide_on_mnist(mnist, record):
    """3 test images at d = 4 and d = 20, within 5 joint standard errors."""
    model, guide, _ = record
    x = mnist.test_images[:3]
    annealed = annealed_log_likelihood(model, guide, x, num_chains=16, num_steps=30)
    refined = log_likelihood(model, Refined(model, guide), x, num_samples=1000)
    se = np.sqrt(annealed.se**2 + refined.se**2)
    assert (np.abs(annealed.value - refined.value) < 5 * se).all()


def test_wrong_arguments_are_named(problem):
    x = problem.data(2)
    with pytest.raises(InputError, match="num_chains must be a whole number >= 1"):
        annealed_log_likelihood(problem.model, None, x, num_chains=0)
    with pytest.raises(InputError, match="num_steps must be a whole number"):
        bidirectional_bounds(problem.model, None, x, num_steps=2.5)

    def two_latents(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1).to_event(1))
            pyro.sample("other", dist.Normal(torch.zeros(len(x)).double(), 1))

    with pytest.raises(InputError, match="the guide samples 'other', which is no site of the mod"):
        annealed_log_likelihood(problem.model, two_latents, x)


def test_what_a_model_computes_is_neither_latent_nor_image(problem):
    def noting(x):
        pyro.deterministic("before", torch.ones(3))
        problem.model(x)
        pyro.deterministic("after", torch.ones(3))

    x, latents = simulate(noting, problem.data(4))
    assert x.shape == (4, 5)
    assert latents["z"].shape == (4, 2)


# --- latents of any kind --------------------------------------------------------------------


@pytest.mark.parametrize("from_prior", [False, True])
@pytest.mark.parametrize(
    ("model", "guide", "x", "exact"),
    [
        (known.hierarchy, known.hierarchy_guide, known.HIERARCHY_DATA, known.hierarchy_exact),
        (known.lomax, known.lomax_guide, known.LOMAX_DATA, known.lomax_exact),
        (known.counts, known.counts_guide, known.COUNTS_DATA, known.counts_exact),
    ],
)
def test_latents_of_any_shape_and_support(model, guide, x, exact, from_prior):
    """E[exp(gain)] = p(x) at few temperatures, over 300 runs of one chain for each image."""
    runs = 300
    many = x.repeat(runs, *(1,) * (x.dim() - 1))
    start = None if from_prior else guide
    result = annealed_log_likelihood(model, start, many, num_chains=1, num_steps=6)
    ratio = np.exp(result.value - exact(many).numpy()).reshape(runs, len(x))
    for column in ratio.T:
        assert abs(off_by(column, 1)) < 5


def test_chains_start_from_an_autoguide_and_from_a_refined_hierarchy():
    """They draw by way of auxiliary sites: the chains move in these."""
    x = known.LOMAX_DATA.repeat(200)
    guide = AutoNormal(known.lomax, init_scale=0.7)
    result = annealed_log_likelihood(known.lomax, guide, x, num_chains=1, num_steps=8)
    ratio = np.exp(result.value - known.lomax_exact(x).numpy()).reshape(200, -1)
    for column in ratio.T:
        assert abs(off_by(column, 1)) < 5
    x = known.HIERARCHY_DATA
    refined = Refined(known.hierarchy, known.hierarchy_guide, samples_per_round=(100, 200))
    result = annealed_log_likelihood(known.hierarchy, refined, x, num_chains=100, num_steps=5)
    known.within(result, known.hierarchy_exact(x))


@pytest.mark.parametrize(
    ("model", "guide", "images", "exact"),
    [
        (known.hierarchy, known.hierarchy_guide, torch.zeros(1000, 2), known.hierarchy_exact),
        (known.hierarchy, None, torch.zeros(1000, 2), known.hierarchy_exact),
        (known.lomax, None, torch.ones(1000), known.lomax_exact),
    ],
)
def test_both_bounds_of_other_latents(model, guide, images, exact):
    """Unbiased on their scales, and to both sides of the exact value."""
    result = bidirectional_bounds(model, guide, images, num_chains=1, num_steps=8)
    exact = exact(result.images).double()
    lower, upper = torch.from_numpy(result.lower.value), -torch.from_numpy(result.upper.value)
    assert abs(off_by(torch.exp(lower - exact), 1)) < 5
    assert abs(off_by(torch.exp(exact - upper), 1)) < 5
    assert off_by(exact - lower, 0) > 3
    assert off_by(upper - exact, 0) > 3


def test_a_move_that_overshoots_a_positive_latent_is_rejected():
    """A trial step to u = 200 and beyond gives z = exp(u) infinite: the chain stays where it was.

    Held against the integral over a fine grid: 5 standard errors, one seed in 1.7 million.
    """

    def model(x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Gamma(2.0, 2.0))
            pyro.sample("x", dist.Normal(4 * z, 0.2), obs=x)

    x, z = torch.tensor([1.0, 8.0]), torch.linspace(1e-4, 10, 100_001)
    joint = dist.Gamma(2.0, 2.0).log_prob(z) + dist.Normal(4 * z, 0.2).log_prob(x[:, None])
    exact = torch.trapezoid(joint.double().exp(), z.double()).log().numpy()
    result = annealed_log_likelihood(model, None, x, num_chains=500, num_steps=40)
    assert (abs(result.value - exact) < 5 * result.se).all()


def test_what_cannot_be_annealed_is_said():
    def mixture(x):
        with pyro.plate("data", x.shape[0]):
            y = pyro.sample("y", dist.Categorical(known.SHARES))
            pyro.sample("x", dist.Normal(known.LOCS[y], 0.5), obs=x)

    for guide in (None, mixture):
        with pytest.raises(InputError, match=r"latent 'y' is discrete.*use Refined"):
            annealed_log_likelihood(mixture, guide, known.MIXTURE_DATA)
    x = known.linear_data(3)
    with pytest.raises(InputError, match=r"sites \['code_unconstrained'\].*None to start"):
        bidirectional_bounds(known.linear, AutoNormal(known.linear), x)

    def other(x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("latent", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    for score in (annealed_log_likelihood, bidirectional_bounds):
        with pytest.raises(InputError, match="misses the model's latent site 'code'"):
            score(known.linear, other, x)


@pytest.mark.parametrize("chains", [3, 16])
def test_chains_start_from_their_own_image(chains):
    """Asked for a sample shape, Pyro's mixture draws from another image's components."""
    problem = LinearGaussian()
    x = problem.data(4) * torch.tensor([-3.0, -1.0, 1.0, 3.0]).double()[:, None]
    mean, covariance = problem.posterior(x)
    scale = covariance.diagonal().sqrt()

    def guide(x):
        locs = mean[:, None].expand(-1, 2, -1)
        with pyro.plate("data", len(x)):
            mixture = dist.MixtureOfDiagNormals(locs, scale.expand(len(x), 2, 2), torch.zeros(4, 2))
            pyro.sample("z", mixture)

    path = _path(problem.model, guide, [x])
    drawn = path.draw(chains)
    assert drawn.shape == (chains, 4, 2)
    assert (abs(drawn - mean) < 6 * scale).all()  # fails for 1 seed in 10^6
