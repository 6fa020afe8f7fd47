"""The refined guide held against Gaussian posteriors, quadrature, and its own density.

Statistical tolerances are 5 standard errors: each comparison fails for one seed in 1.7 million.
"""

import math
from unittest.mock import Mock

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal

from pyro_vae.errors import InputError
from pyro_vae.guides import refined as refined_module
from pyro_vae.guides.adaptive import Round, _refit
from pyro_vae.guides.laplace import curvature, laplace, newton_ascent
from pyro_vae.guides.refined import Refined
from pyro_vae.guides.score_matching import score_matching
from pyro_vae.guides.starts import starts
from pyro_vae.guides.student import T_COMPONENTS, StudentMixture
from pyro_vae.likelihood.importance import log_joint_in_chunks, log_likelihood
from pyro_vae.likelihood.quadrature import integrate_plane
from pyro_vae.likelihood.traces import draw, simulate
from pyro_vae.problems import LinearGaussian
from tests import programs as known
from tests.shared import off_by


@pytest.fixture(scope="module")
def problem():
    return LinearGaussian()


def mixture():
    """Two components on the plane for each of two images, the second of the last switched off."""
    loc = torch.tensor([[[0.0, 0.0], [2.0, 1.0]], [[1.0, -1.0], [0.0, 0.0]]]).double()
    tril = torch.tensor([[[0.5, 0.0], [0.3, 0.4]], [[1.0, 0.0], [-0.5, 0.7]]]).double()
    share = torch.tensor([[0.7, 0.3], [1.0, 0.0]]).double()
    return StudentMixture(loc, tril.expand(2, 2, 2, 2), share.log(), loc)


def test_density_equals_that_of_pyros_student_t():
    q = mixture()
    value = torch.randn(7, 2, 2).double()
    expected = torch.full((7, 2), -math.inf).double()
    for c in range(2):
        for share, df, factor in T_COMPONENTS:
            t = dist.MultivariateStudentT(df, q.loc[:, c], factor * q.scale_tril[:, c])
            term = t.log_prob(value) + q.log_mixture_weights[:, c] + math.log(share)
            expected = torch.logaddexp(expected, term)
    torch.testing.assert_close(q.log_prob(value), expected)


def test_samples_have_the_density():
    """E_q[p / q] = 1 for another density p, and every sample's coordinate has the right mean."""
    q = mixture()
    z = q.sample((200_000,))
    p = dist.MultivariateNormal(q.loc[:, 0], scale_tril=0.7 * q.scale_tril[:, 0])
    ratio = torch.exp(p.log_prob(z) - q.log_prob(z))
    assert ((ratio.mean(0) - 1).abs() < 5 * ratio.std(0) / math.sqrt(len(z))).all()
    mean = (q.log_mixture_weights.exp()[..., None] * q.loc).sum(1)
    assert ((z.mean(0) - mean).abs() < 5 * z.std(0) / math.sqrt(len(z))).all()


def test_newton_and_curvature_are_exact_on_a_gaussian_posterior(problem):
    x = problem.data(3)
    loc, covariance = problem.posterior(x)
    exact = dist.MultivariateNormal(loc, covariance)
    modes = newton_ascent(exact.log_prob, torch.randn(2, 3, 2).double(), 1)
    torch.testing.assert_close(modes, loc.expand(2, 3, 2), atol=1e-9, rtol=0)
    value, gradient, precision = curvature(exact.log_prob, modes)
    torch.testing.assert_close(value, exact.log_prob(modes))
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-8, rtol=0)
    torch.testing.assert_close(torch.linalg.inv(precision[0, 0]), covariance)
    proposal = laplace(exact.log_prob, modes)
    assert (
        proposal.log_mixture_weights.isinf().sum(-1) == 1
    ).all()  # one mode, found twice: kept once
    assert (proposal.log_mixture_weights.exp().sum(-1) == 1).all()


def test_a_modes_weight_is_its_mass():
    """Three Gaussians far apart, of shares and widths that are known: Laplace is exact."""
    share = torch.tensor([0.7, 0.1, 0.2]).double()
    loc = torch.tensor([[-40.0, 0], [0, 30], [50, 0]]).double()
    width = torch.tensor([[0.5, 2.0], [3, 1], [0.2, 0.2]]).double()

    def log_p(z):
        parts = dist.Normal(loc, width).log_prob(z[..., None, :]).sum(-1)
        return (share.log() + parts).logsumexp(-1)

    found = laplace(log_p, loc[:, None])
    torch.testing.assert_close(found.log_mixture_weights, share.log()[None])


def test_no_component_falls_below_a_hundredth():
    """All weight lies at the first component; one that is switched off stays off, as it was."""
    loc = torch.tensor([[[0.0], [30.0], [60.0]]]).double()
    off = torch.tensor([[0.5, 0.5, 0.0]]).double().log()
    before = StudentMixture(loc, torch.ones(1, 3, 1, 1).double(), off, torch.zeros(0))
    z = before.sample((400,))
    values = before.log_prob(z).double() + torch.where(z[..., 0] < 15, 0.0, -200.0)
    after = _refit([Round(before, z, values)])
    torch.testing.assert_close(
        after.log_mixture_weights.exp(), torch.tensor([[1, 0.01, 0]]).double() / 1.01
    )
    torch.testing.assert_close(after.loc[:, 2], before.loc[:, 2])
    torch.testing.assert_close(after.scale_tril[:, 2], before.scale_tril[:, 2])


def test_climbing_never_goes_down():
    def rugged(z):
        return torch.cos(5 * z).sum(-1) - z.square().sum(-1)

    start = 3 * torch.randn(4, 50, 2)
    assert (rugged(newton_ascent(rugged, start, 5)) >= rugged(start)).all()


@pytest.mark.parametrize("length", [1.0, 0.5, 0.2, 0.05])
def test_each_length_of_a_step_is_tried(length):
    """Newton's step for -|z|^p leads from 1 to 1 - 1 / (p - 1): the length p - 1 is right."""
    start = torch.ones(1, 1, 1).double()
    mode = newton_ascent(lambda z: -z.abs().pow(1 + length).sum(-1), start, 1)
    torch.testing.assert_close(mode, torch.zeros_like(mode), atol=1e-9, rtol=0)


def test_refined_guide_on_a_gaussian_posterior(problem):
    """From the prior as the guide: near-constant weights, and no bias on the likelihood scale."""
    x = problem.data(1).expand(400, -1)
    exact = problem.log_likelihood(x[:1]).numpy()
    refined = Refined(
        problem.model, problem.prior_guide, num_starts=2, samples_per_round=(100, 100)
    )
    result = log_likelihood(problem.model, refined, x, num_samples=100)
    assert np.median(result.ess) > 85
    assert result.trusted().mean() > 0.95
    ratio = np.exp(result.value - exact)
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(len(ratio))


def ring_model(x):
    """x ~ N(|z|^2, 0.5^2): the posterior is a ring, or a bump where x is small."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1).to_event(1))
        pyro.sample("x", dist.Normal(z.square().sum(-1, keepdim=True), 0.5).to_event(1), obs=x)


def two_bumps_model(x):
    """x ~ N(z^2, 0.3^2) for both coordinates: four equal modes, saddles between them."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1).to_event(1))
        pyro.sample("x", dist.Normal(z.square(), 0.3).to_event(1), obs=x)


def start_at_zero(x):
    """A guide whose mean is a saddle of both posteriors, where the curvature has a wrong sign."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.zeros(2).double(), 0.5).to_event(1))


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (ring_model, torch.tensor([[0.0], [1.0], [4.0]]).double()),
        (two_bumps_model, torch.tensor([[0.0, 0.0], [1.0, 0.5], [2.0, 2.0]]).double()),
    ],
)
def test_posteriors_that_are_not_gaussian(model, x):
    """Within 5 standard errors of quadrature, also where it starts at a saddle."""
    exact = integrate_plane(model, x).log_evidence.numpy()
    refined = Refined(model, start_at_zero, num_starts=6)
    result = log_likelihood(model, refined, x, num_samples=4000)
    assert (np.abs(result.value - exact) < 5 * result.se).all()
    assert result.trusted().all()
    assert (result.se < 0.05).all()


def test_trained_network_against_quadrature(trained, digits):
    model, guide = trained
    x = digits.test_images[:6]
    exact = integrate_plane(model, x, points=101).log_evidence.numpy()
    result = log_likelihood(model, Refined(model, guide), x, num_samples=1000)
    assert (np.abs(result.value - exact) < 5 * result.se + 2e-3).all()
    assert result.trusted().all()


def test_a_fit_in_bfloat16_is_another_proposal_for_the_same_model(trained, digits):
    """The fit is rounded, the weights are not: as near quadrature."""
    model, guide = trained
    x = digits.test_images[:4]
    exact = integrate_plane(model, x, points=101).log_evidence.numpy()
    full, rounded = (
        log_likelihood(model, Refined(model, guide, precision=precision), x, num_samples=1000)
        for precision in ("float32", "bfloat16")
    )
    assert (rounded.value != full.value).all()
    assert (np.abs(rounded.value - exact) < 5 * rounded.se + 2e-3).all()
    assert rounded.trusted().all()


def test_it_is_a_guide_like_any_other(problem):
    """Its fit leaves no sites behind, it passes labels on, and chunks do not matter."""
    labels = torch.arange(130)
    data = problem.data(130)

    def model(x, y):
        assert torch.equal(x, data[y])  # an image keeps its label
        problem.model(x)

    refined = Refined(model, lambda x, y: problem.wide_guide(x), samples_per_round=(50,))
    x = data
    trace = poutine.trace(refined).get_trace(x, labels)
    assert [name for name in trace.nodes if name[0] != "_"] == ["data", "z"]
    options = {"num_samples": 50}
    whole = log_likelihood(model, refined, x, labels, **options).value
    cut = log_likelihood(model, refined, x, labels, chunk_size=70, **options).value
    np.testing.assert_allclose(cut, whole, atol=1e-10)


@pytest.mark.parametrize(("latents", "modes", "by_gradients"), [(2, 10, 0), (10, 2, 0), (11, 1, 1)])
def test_more_dimensions_get_fewer_starts_and_gradients(latents, modes, by_gradients, monkeypatch):
    sought, matched = Mock(wraps=starts), Mock(wraps=score_matching)
    monkeypatch.setattr(refined_module, "starts", sought)
    monkeypatch.setattr(refined_module, "score_matching", matched)
    linear = LinearGaussian(latent_dim=latents)
    Refined(linear.model, linear.wide_guide, samples_per_round=(50,))(linear.data(2))
    assert [call.args[2] for call in sought.call_args_list] == [modes]
    assert matched.call_count == by_gradients


def test_a_guide_without_a_mean_can_start_it(problem):
    def flow(x):
        loc, covariance = problem.posterior(x)
        base = dist.Normal(loc, covariance.diagonal().sqrt()).to_event(1)
        shift = dist.transforms.AffineTransform(0.1, 1.5)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.TransformedDistribution(base, [shift]))

    x = problem.data(5)
    result = log_likelihood(problem.model, Refined(problem.model, flow), x, num_samples=500)
    exact = problem.log_likelihood(x).numpy()
    assert (np.abs(result.value - exact) < 5 * result.se).all()


def test_wrong_arguments_are_named(problem):
    for wrong in ({"num_starts": 0}, {"newton_steps": -1}, {"samples_per_round": (1,)}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} must be a whole number"):
            Refined(problem.model, problem.wide_guide, **wrong)

    def two_latents(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1).to_event(1))
            pyro.sample("w", dist.Normal(torch.zeros(2).double(), 1).to_event(1))

    with pytest.raises(InputError, match="the guide samples 'w', which is no site of the model"):
        log_likelihood(problem.model, Refined(problem.model, two_latents), problem.data(2))


def test_it_cures_what_the_amortised_guide_fails_on_mnist(mnist, record):
    """Of 40 test images the first 12 that it fails on: trusted, and no lower on average."""
    model, guide, _ = record
    x = mnist.test_images[:40]
    amortised = log_likelihood(model, guide, x, num_samples=1000)
    assert amortised.trusted().mean() < 0.5
    failed = np.flatnonzero(~amortised.trusted())[:12]
    amortised = amortised.subset(failed)
    refined = log_likelihood(model, Refined(model, guide), x[failed], num_samples=1000)
    assert refined.trusted().mean() > 0.9
    assert refined.value.mean() > amortised.value.mean()
    assert np.median(refined.ess) > 5 * np.median(amortised.ess)


# --- latents of any kind --------------------------------------------------------------------

QUICK = {"num_starts": 2, "samples_per_round": (200, 400)}


@pytest.mark.parametrize(
    ("model", "guide", "x", "exact"),
    [
        (known.linear, known.linear_guide, known.linear_data(5), known.linear_exact),
        (known.hierarchy, known.hierarchy_guide, known.HIERARCHY_DATA, known.hierarchy_exact),
        (known.lomax, known.lomax_guide, known.LOMAX_DATA, known.lomax_exact),
        (known.counts, known.counts_guide, known.COUNTS_DATA, known.counts_exact),
        (known.linear, AutoNormal(known.linear), known.linear_data(5), known.linear_exact),
    ],
)
def test_latents_of_any_shape_and_support(model, guide, x, exact):
    """A hierarchy, a positive latent, one on a simplex; from Pyro's AutoNormal too."""
    result = log_likelihood(model, Refined(model, guide, **QUICK), x, num_samples=1000)
    known.within(result, exact(x))
    # k-hat looks at the tail alone, and may doubt weights of which none is far above their mean
    assert (result.trusted() | (result.ess > 900)).all()


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_latents_of_scalar_and_matrix_shape(shape):
    """x ~ N(z, 0.5^2) for each of the numbers of z: log p(x) is that of N(0, 1.25)."""
    event = len(shape)

    def model(x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(shape), 1.0).to_event(event))
            pyro.sample("x", dist.Normal(z, 0.5).to_event(event), obs=x)

    def guide(x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x / 2, 1.0).to_event(event))

    x = torch.randn(5, *shape)
    exact = dist.Normal(0.0, math.sqrt(1.25)).expand(shape).to_event(event).log_prob(x)
    known.within(log_likelihood(model, guide, x, num_samples=20_000), exact)
    known.within(log_likelihood(model, Refined(model, guide, **QUICK), x), exact)


def one_hot(y):
    return y @ known.LOCS


def by_number(y):
    return known.LOCS[y.long()]


def switched(y):
    return 2 * y


DISCRETE = {
    "Categorical": (dist.Categorical(known.SHARES), by_number, known.LOCS, known.SHARES),
    "OneHot": (dist.OneHotCategorical(known.SHARES), one_hot, known.LOCS, known.SHARES),
    "Bernoulli": (
        dist.Bernoulli(torch.tensor(0.3)),
        switched,
        torch.tensor([0.0, 2.0]),
        torch.tensor([0.7, 0.3]),
    ),
}


@pytest.mark.parametrize("kind", DISCRETE)
@pytest.mark.parametrize("noisy", [False, True])
def test_a_discrete_latent(kind, noisy):
    """x ~ N(loc(y) + z, 0.5^2), with z ~ N(0, 1) or without it: a mixture of Gaussians."""
    fn, loc, locs, shares = DISCRETE[kind]

    def model(x):
        with pyro.plate("data", x.shape[0]):
            mean = loc(pyro.sample("y", fn))
            if noisy:
                mean = mean + pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", x.shape[0]):
            y = pyro.sample("y", fn)
            if noisy:
                pyro.sample("z", dist.Normal(0.8 * (x - loc(y)), 0.6))

    x = known.MIXTURE_DATA
    mixture = shares.log() + dist.Normal(locs, math.sqrt(0.25 + noisy)).log_prob(x[:, None])
    exact = mixture.logsumexp(-1)
    refined = Refined(model, guide, **QUICK)
    result = log_likelihood(model, refined, x, num_samples=2000)
    known.within(result, exact)
    assert (result.ess > 1500).all()
    known.within(log_likelihood(model, guide, x, num_samples=20_000), exact)
    # the draws' weights give the posterior of y, which is known
    latents, log_q = draw(refined, [x], 4000)
    w = torch.softmax(log_joint_in_chunks(model, [x], latents) - log_q.double(), 0)
    posterior = torch.softmax(mixture, -1).double()
    mean = loc(latents["y"]).double()
    estimated = (w * mean).sum(0)
    se = (w.square() * (mean - estimated).square()).sum(0).sqrt()
    assert (abs(estimated - posterior @ locs.double()) < 5 * se + 1e-6).all()


def test_what_latents_cannot_be_refined_is_said():
    def model_of(*latents):
        def model(x):
            with pyro.plate("data", x.shape[0]):
                total = sum(pyro.sample(name, fn) for name, fn in latents)
                pyro.sample("x", dist.Normal(total, 0.5), obs=x)

        return model

    coin, poisson = dist.Bernoulli(torch.tensor(0.5)), dist.Poisson(torch.tensor(2.0))
    x = known.MIXTURE_DATA
    for latents, said in (
        ([("y", coin), ("c", coin)], "latents 'y' and 'c' are discrete, and the refined guide"),
        ([("y", poisson)], r"latent 'y' is discrete and has no list of values \(Poisson\)"),
    ):
        model = model_of(*latents)
        with pytest.raises(InputError, match=said):
            log_likelihood(model, Refined(model, model), x)

    def other(x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("latent", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    with pytest.raises(InputError, match=r"misses the model's latent site 'code'.*'latent'"):
        log_likelihood(known.linear, Refined(known.linear, other), known.linear_data(2))


def test_intervals_cover_the_exact_value():
    """Of 200 simulated images, 95% intervals of the estimate: fewer than 180 by chance < 1e-3.

    The posterior's own: the rank of the simulated latent among the weighted draws is uniform. Its
    mean over 200 images is within 5 standard errors of one half.
    """
    x, latents = simulate(known.hierarchy, torch.zeros(200, 2))
    refined = Refined(known.hierarchy, known.hierarchy_guide, **QUICK)
    result = log_likelihood(known.hierarchy, refined, x, num_samples=200)
    off = np.abs(result.value - known.hierarchy_exact(x).numpy())
    assert (off < 1.96 * result.se).sum() >= 180
    draws, log_q = draw(refined, [x], 200)
    w = torch.softmax(log_joint_in_chunks(known.hierarchy, [x], draws) - log_q.double(), 0)
    for name in ("top", "middle"):
        below = (draws[name] < latents[name]).reshape(*w.shape, -1)
        rank = (w[..., None] * below).sum(0)
        for column in rank.T:
            assert abs(off_by(column, 0.5)) < 5
            assert abs(off_by((column - 0.5).square(), 1 / 12)) < 5
