"""log p(x) to a standard error that is asked for, held against exact values.

Statistical tolerances are 5 standard errors: each comparison fails for one seed in 1.7 million.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_vae.accuracy import log_likelihood, sum_over_labels
from pyro_vae.errors import InputError
from pyro_vae.guides import draws
from pyro_vae.guides.adaptive import drawn
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import Estimate, estimate, sum_of
from pyro_vae.likelihood.quadrature import integrate_plane
from pyro_vae.likelihood.unlabelled import unlabelled_log_likelihood
from pyro_vae.problems import LinearGaussian
from pyro_vae.shards import sharded_log_likelihood
from pyro_vae.vae import Vae
from tests.shared import off_by, started


def ring(x):
    """x ~ N(|z|^2, 0.3^2): the posterior is a ring."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1).to_event(1))
        pyro.sample("x", dist.Normal(z.square().sum(-1, keepdim=True), 0.3).to_event(1), obs=x)


def one_side(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.tensor([1.0, 0.0]).double(), 0.5).to_event(1))


def test_every_image_has_the_error_that_is_asked_for():
    problem = LinearGaussian()
    x = problem.data(150)  # two blocks
    for se in (0.1, 0.01):
        result = log_likelihood(problem.model, problem.shifted_guide, x, se=se)
        assert result.trusted().all()
        assert (result.se <= se).all()
        error = result.value - problem.log_likelihood(x).numpy()
        assert abs(off_by(error, -(result.se**2).mean() / 2)) < 5
        assert (np.abs(error) < 6 * se).all()
    assert len(result.num_samples) == 150


def test_the_estimate_has_no_bias_where_the_fit_is_poor():
    """400 images with a ring as posterior, on the likelihood scale, against quadrature."""
    x = torch.tensor([[1.5]]).double()
    exact = integrate_plane(ring, x).log_evidence.numpy()
    result = log_likelihood(ring, one_side, x.expand(400, -1), se=0.1)
    assert result.trusted().mean() > 0.95
    assert (result.se <= 0.1).mean() > 0.95
    assert len(np.unique(result.num_samples)) > 2  # images were worked on for as long as needed
    ratio = np.exp(result.value - exact)
    assert abs(ratio.mean() - 1) < 0.01 + 5 * ratio.std() / math.sqrt(len(ratio))
    z = (result.value - exact) / result.se
    assert 0.8 < z.std() < 1.2  # the error that is claimed is the error that is made


def test_no_image_has_more_draws_than_are_allowed():
    x = torch.tensor([[1.5]]).double().expand(30, -1)
    result = log_likelihood(ring, one_side, x, se=0.005, num_samples=700)
    assert result.num_samples.max() == 700
    assert (result.se > 0.005).all()


def test_the_result_is_the_same_for_every_block():
    """A block of images has draws of its own: those of other blocks change nothing."""
    problem = LinearGaussian()
    x = problem.data(130)
    whole = log_likelihood(problem.model, problem.shifted_guide, x, se=0.1)
    first = log_likelihood(problem.model, problem.shifted_guide, x[:100], se=0.1)
    for a, b in zip(whole.subset(slice(100)), first, strict=True):
        np.testing.assert_array_equal(a, b)
    again = log_likelihood(problem.model, problem.shifted_guide, x, se=0.1)
    np.testing.assert_array_equal(again.value, whole.value)
    other = log_likelihood(problem.model, problem.shifted_guide, x, se=0.1, seed=1)
    assert (other.value != whole.value).all()
    twice = log_likelihood(problem.model, problem.shifted_guide, x[:100].repeat(2, 1), se=0.1)
    assert (twice.value[:100] != twice.value[100:]).all()


def test_a_refined_guide_is_taken_as_it_is():
    problem = LinearGaussian()
    x = problem.data(5)
    guide = Refined(problem.model, problem.shifted_guide)
    one = log_likelihood(problem.model, guide, x, se=0.1)
    other = log_likelihood(problem.model, problem.shifted_guide, x, se=0.1)
    np.testing.assert_array_equal(one.value, other.value)


def mixture(x):
    """y ~ Bernoulli(0.3), z ~ N(0, 1), x ~ N(z + 3 y, 0.5^2)."""
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Bernoulli(torch.tensor(0.3).double()))
        z = pyro.sample("z", dist.Normal(torch.zeros(()).double(), 1))
        pyro.sample("x", dist.Normal(z + 3 * y, 0.5).expand([len(x)]), obs=x[:, 0])


def mixture_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(torch.tensor(0.5).double()))
        pyro.sample("z", dist.Normal(torch.zeros(()).double(), 1))


def test_the_sum_over_a_discrete_latent_is_exact():
    x = torch.linspace(-1, 4, 9).double()[:, None]
    result = log_likelihood(mixture, mixture_guide, x, se=0.01)
    terms = [
        math.log(share) + dist.Normal(3.0 * y, 1.25**0.5).log_prob(x[:, 0])
        for y, share in ((0, 0.7), (1, 0.3))
    ]
    exact = torch.logaddexp(*terms).numpy()
    assert result.trusted().all()
    assert (np.abs(result.value - exact) < 5 * result.se + 1e-6).all()
    assert (result.se <= 0.015).all()


def test_pixels_that_are_not_seen_may_be_anything():
    problem = LinearGaussian(data_dim=4)
    x, seen = problem.data(6), torch.tensor([True, True, False, True])
    small = LinearGaussian(data_dim=4)
    small.w, small.data_dim = problem.w[seen], 3
    exact = small.log_likelihood(x[:, seen]).numpy()
    for filled in (x, x.masked_fill(~seen, torch.nan)):
        result = log_likelihood(problem.model, problem.prior_guide, filled, mask=seen, se=0.02)
        assert (np.abs(result.value - exact) < 5 * result.se + 1e-6).all()


def test_labels_are_summed_over():
    vae = Vae.build(2, architecture="dense", num_classes=3, precision="float32")
    x = torch.rand(4, 1, 28, 28)
    labels = torch.arange(3)
    found = vae.log_likelihood(x, se=0.05)
    plain = unlabelled_log_likelihood(vae.model, vae.guide, x, labels=labels, num_samples=3000)
    error = np.hypot(found.se, plain.se)
    assert (np.abs(found.value - plain.value) < 5 * error).all()
    again = sum_over_labels(vae.model, vae.guide, x, labels, se=0.05)
    np.testing.assert_array_equal(found.value, again.value)


def test_a_trained_autoencoder_agrees_with_many_samples(trained, digits):
    x = digits.test_images[:20]
    vae = Vae(*trained)
    result = vae.log_likelihood(x, se=0.05)
    many = vae.refined().log_likelihood(x, num_samples=5000, seed=1)
    assert result.trusted().all()
    assert (np.abs(result.value - many.value) < 5 * np.hypot(result.se, many.se)).all()


def test_wrong_options_are_named():
    problem = LinearGaussian()
    x = problem.data(2)
    for options, message in (
        ({"se": 0}, "se must be a number >= 0.001"),
        ({"se": "0.1"}, "se must be a number or None"),
        ({"se": 0.1, "num_samples": 25}, "num_samples must be a whole number >= 26"),
        ({"se": 0.1, "chunk_size": 10}, "chunk_size goes with num_samples"),
    ):
        with pytest.raises(InputError, match=message):
            log_likelihood(problem.model, problem.wide_guide, x, **options)


def test_a_refined_guide_of_another_model_scores_this_one():
    """Its fit is made anew for the model that is given."""
    one, other = LinearGaussian(), LinearGaussian(seed=1)
    x = one.data(3)
    guide = Refined(other.model, one.prior_guide)
    result = log_likelihood(one.model, guide, x, se=0.05)
    assert (np.abs(result.value - one.log_likelihood(x).numpy()) < 0.25).all()


def one_of_two(x):
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Bernoulli(torch.tensor(0.3).double()))
        pyro.sample("x", dist.Normal(2 * y, 0.5), obs=x)


def either(x):
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(torch.full((len(x),), 0.5).double()))


def test_one_discrete_latent_and_no_other_is_summed_over(tmp_path):
    x = torch.tensor([0.0, 1.0, 2.0]).double()
    density = [dist.Normal(2.0 * y, 0.5).log_prob(x).exp() for y in (0, 1)]
    exact = (0.7 * density[0] + 0.3 * density[1]).log().numpy()
    for result in (
        log_likelihood(one_of_two, either, x, se=0.1),
        sharded_log_likelihood(tmp_path, one_of_two, either, x, se=0.1),
    ):
        np.testing.assert_allclose(result.value, exact, rtol=1e-6)
        assert result.trusted().all()
        assert (result.se == 0).all()


# --- the parts --------------------------------------------------------------------------------


def test_the_number_of_draws_follows_from_the_weights():
    log_w = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)).double()
    known = estimate(log_w * torch.tensor([0.1, 0.5, 1.0]))
    needed = draws.draws_needed(known, 0.05)
    for scale, count in zip((0.1, 0.5, 1.0), needed, strict=True):
        exact = draws.SPARE * math.expm1(scale**2) / 0.05**2  # of log-normal weights
        assert count in draws.COUNTS
        assert count >= 0.9 * exact
        assert count <= max(300, 1.7 * exact)


def test_a_sum_of_estimates():
    parts = [estimate(torch.randn(1000, 4).double() * s - 3) for s in (0.1, 0.2)]
    prior = [math.log(0.25), math.log(0.75)]
    total = sum_of(parts, prior)
    p = [np.exp(part.value + log) for part, log in zip(parts, prior, strict=True)]
    np.testing.assert_allclose(total.value, np.log(p[0] + p[1]))
    se = np.hypot(p[0] * parts[0].se, p[1] * parts[1].se) / (p[0] + p[1])
    np.testing.assert_allclose(total.se, se)
    np.testing.assert_allclose(total.khat, np.maximum(parts[0].khat, parts[1].khat))
    assert (total.elbo < total.value).all()
    assert total.num_samples == 2000
    alone = sum_of(parts[:1], [0.0])
    for name, array in parts[0].arrays().items():
        np.testing.assert_allclose(alone.arrays()[name], array, atol=1e-12)


def test_a_sum_is_trusted_where_each_part_is():
    """Ten parts of 200 draws are 2,000 draws, and each part's k-hat is judged at 200."""
    weights = np.random.default_rng(0).pareto(1 / 0.6, (10, 200, 50)) + 1
    parts = [estimate(np.log(w)) for w in weights]
    every = np.all([part.trusted() for part in parts], 0)
    total = sum_of(parts, [0.0] * 10)
    assert (total.trusted() == every).all()
    assert not every.all()
    assert sum_of(parts[:1], [0.0]).trusted().any()


def test_a_sum_of_zeros_is_not_trusted():
    zero = estimate(torch.full((200, 2), -torch.inf).double())
    total = sum_of([zero, zero], [0.0, 0.0])
    assert not total.trusted().any()
    assert np.isnan(total.se).all()
    assert (total.elbo == -np.inf).all()


def test_all_draws_of_an_image_are_in_its_estimate(monkeypatch):
    torch.manual_seed(0)
    problem = LinearGaussian()
    x, numbers = problem.data(1), []

    def counted(posterior, proposal, count):
        numbers.append(count)
        return drawn(posterior, proposal, count)

    monkeypatch.setattr(draws, "drawn", counted)
    posterior, proposal = started(problem, x, [0.2])
    fitted = estimate(torch.zeros(250, 1).double())  # that nothing more is needed
    result = draws.to_accuracy(posterior, proposal, fitted, 0.01, 20_000)
    assert len(numbers) > 2
    assert result.num_samples.tolist() == [sum(numbers)]


def test_a_proposal_that_fails_is_refitted():
    torch.manual_seed(0)
    problem = LinearGaussian()
    x = problem.data(4)
    posterior, proposal = started(problem, x, [0.2])
    fitted = estimate(torch.zeros(250, 4).double())
    result = draws.to_accuracy(posterior, proposal, fitted, 0.05, 5000)
    assert (result.se <= 0.05).all()
    assert result.trusted().all()


def test_the_verdict_names_the_images():
    log_w = torch.randn(1000, 20, generator=torch.Generator().manual_seed(0)).double()
    assert estimate(log_w).summary()["verdict"] == "to be trusted"
    log_w[:, 15] = torch.distributions.Exponential(1.0).sample((1000,)) * 1.5
    verdict = estimate(log_w).summary()["verdict"]
    assert verdict.startswith("19 of 20 trusted; not image 15 (k-hat 1.")
    log_w[:, 5:10] = log_w[:, 15:16]
    verdict = estimate(log_w).summary()["verdict"]
    assert "not images 5 (k-hat" in verdict
    assert "and 3 more: a lower bound there; draw more samples" in verdict
    log_w[:, :4] = log_w[:, 15:16]
    assert "10 of 20 trusted; " in estimate(log_w).summary()["verdict"]
    assert "by luck" not in estimate(log_w).summary()["verdict"]
    log_w[:, 4] = log_w[:, 15]
    assert "; where so few pass, some do by luck" in estimate(log_w).summary()["verdict"]


def test_estimates_of_unlike_numbers_of_samples_join():
    one = estimate(torch.randn(50, 3).double())
    each = one._replace(num_samples=np.array([50, 50, 50]))
    other = one._replace(num_samples=np.array([500, 70, 80]))
    joined = Estimate.concatenate([each, other])
    assert joined.num_samples.tolist() == [50, 50, 50, 500, 70, 80]
    assert joined.subset(slice(3, 5)).num_samples.tolist() == [500, 70]
    assert joined.summary()["num_samples"] == pytest.approx(800 / 6)
    swapped = each.replaced(np.array([1]), other.subset(np.array([0])))
    assert swapped.num_samples.tolist() == [50, 500, 50]
    assert each.num_samples.tolist() == [50, 50, 50]
