"""Programs of the user's own: sites of any name, and networks in evaluation mode.

Values are held against closed forms. Monte Carlo tolerances are 5 standard errors: a comparison
fails for one seed in 1.7 million.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal

from pyro_vae import InputError, Refined, decode, log_likelihood, sample
from pyro_vae.analysis.comparison import evaluate
from pyro_vae.analysis.judges import Classifier, class_features, class_probabilities
from pyro_vae.analysis.rate_distortion import guide_rate_distortion, model_rate_distortion
from pyro_vae.analysis.sampling import (
    decode_style,
    encode_style,
    guide_samples,
    posterior_mean,
    posterior_moments,
    posterior_samples,
)
from pyro_vae.likelihood.quadrature import integrate_plane
from pyro_vae.models import Model
from pyro_vae.networks.dense import DenseDecoder
from pyro_vae.priors import LearnedPrior
from tests.guests import PyroStyle
from tests.programs import (
    HIERARCHY_DATA,
    NOISE,
    W,
    auxiliary_guide,
    hierarchy,
    hierarchy_guide,
    linear,
    linear_data,
    linear_exact,
    linear_guide,
    linear_posterior,
)
from tests.shared import off_by

X, PLANE = linear_data(2), HIERARCHY_DATA[:2]


def images(n=6):
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(1)).round()


CALLS = {
    "guide_samples": lambda v, x: guide_samples(v.guide, x, num_samples=3),
    "posterior_moments": lambda v, x: posterior_moments(v.guide, x)[0],
    "posterior_mean": lambda v, x: posterior_mean(v.model, v.guide, x, num_samples=20)[0],
    "posterior_samples": lambda v, x: posterior_samples(v.model, v.guide, x, num_draws=2)[0],
    "decode": lambda v, x: decode(v.model, torch.ones(4, 2), like=x),
    "sample": lambda v, x: sample(v.model, 3, like=x),
    "guide_rate_distortion": lambda v, x: guide_rate_distortion(v.model, v.guide, x)[1],
    "model_rate_distortion": lambda v, x: (
        model_rate_distortion(v.model, v.guide, x, beta=0.5, num_samples=20).distortion
    ),
    "integrate_plane": lambda v, x: (
        integrate_plane(v.model, x, points=11, half_width=20.0).log_evidence
    ),
    "evaluate": lambda v, x: evaluate(v.model, v.guide, x, num_samples=100).estimate.value,
}


@pytest.mark.parametrize("name", CALLS)
def test_everything_runs_in_evaluation_mode_and_leaves_no_trace(name):
    """Dropout and batch statistics would change the second result; nothing moves or is kept."""
    torch.manual_seed(0)
    vae, x = PyroStyle(2), images(3)
    vae.decoder[1].eval()  # a mode of its own, to be put back as it was
    modes = [module.training for module in vae.modules()]
    before = {key: value.clone() for key, value in vae.state_dict().items()}
    random = torch.get_rng_state()
    first = CALLS[name](vae, x)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in vae.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in vae.state_dict().items())
    assert not list(pyro.get_param_store().keys())
    vae.eval()
    np.testing.assert_array_equal(np.asarray(first), np.asarray(CALLS[name](vae, x)))


def test_a_judge_judges_in_evaluation_mode():
    classifier, x = Classifier(), images()
    for call in (class_probabilities, class_features):
        classifier.train()
        result = call(classifier, x)
        assert classifier.training
        np.testing.assert_array_equal(result, call(classifier.eval(), x))


def test_latents_are_decoded_by_running_the_model():
    """Means are z W, for latents in any leading shape; what is on `like` plays no part."""
    z = torch.randn(2, 300, 2)  # more than are decoded at a time
    torch.testing.assert_close(decode(linear, z, like=X), z @ W)
    assert torch.equal(decode(linear, z, like=X), decode(linear, z, like=X + 5))
    assert decode(linear, z[0, 0], like=X).shape == (5,)
    torch.testing.assert_close(decode(linear, {"code": z[0]}, like=X), z[0] @ W)
    latents = {"top": torch.randn(5), "middle": torch.randn(5, 2)}
    assert torch.equal(decode(hierarchy, latents, like=PLANE), latents["middle"])
    vae = PyroStyle()
    z = torch.randn(4, 3)
    expected = vae.eval().decoder(z).reshape(4, 1, 28, 28)
    torch.testing.assert_close(decode(vae.train().model, z, like=images()), expected)


def conditional(x, y):
    """x = z + y, with labels that are one-hot or whole numbers."""
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("style", dist.Normal(torch.full((5,), 2.0), 0.1).to_event(1))
        shift = y if y.dim() > 1 else y[:, None].expand(-1, 5)
        pyro.sample("seen", dist.Normal(z + shift, 0.01).to_event(1), obs=x)


def test_labels_go_with_their_latents():
    z, y = torch.randn(2, 4, 5), torch.arange(4)
    torch.testing.assert_close(decode(conditional, z, y, like=X), z + y[:, None])
    one_hot = torch.eye(5)[:4]
    torch.testing.assert_close(decode(conditional, z, one_hot, like=X), z + one_hot)
    many = torch.arange(1200) % 3
    drawn = sample(conditional, 1200, many, like=X)
    residual = drawn - many[:, None]
    assert abs(off_by(residual.flatten(), 2.0)) < 5
    pixels = sample(conditional, 1200, many, like=X, pixels=True)
    assert abs(off_by(((pixels - drawn) / 0.01).square().flatten(), 1.0)) < 5
    with pytest.raises(InputError, match="y must be one label for each latent"):
        decode(conditional, z, y[:3], like=X)
    with pytest.raises(InputError, match="y must have a row for each of 5 images"):
        sample(conditional, 5, y, like=X)


def test_samples_have_the_moments_of_the_models_prior():
    """Means z W with z ~ N(0, I): variance diag(W^T W); the same for each seed, and no other."""
    drawn = sample(linear, 3000, like=X)
    variance = W.square().sum(0)
    for i in range(5):
        assert abs(off_by(drawn[:, i], 0)) < 5
        assert abs(off_by(drawn[:, i].square(), variance[i])) < 5
    pixels = sample(linear, 3000, like=X, pixels=True)
    assert abs(off_by(pixels[:, 0].square(), variance[0] + NOISE**2)) < 5
    assert torch.equal(sample(linear, 600, like=X), sample(linear, 600, like=X + 1))
    assert not torch.equal(sample(linear, 600, like=X, seed=1), sample(linear, 600, like=X))
    assert not torch.equal(drawn[:500], drawn[500:1000])


def test_a_learned_prior_is_sampled_by_the_plain_call():
    """A prior N(3 + y, 0.1^2), where draws of N(0, I) never come: both ways of sampling see it."""
    torch.manual_seed(0)
    model = Model(DenseDecoder(2, 10), prior=LearnedPrior(2, 10))
    shift = 3 + torch.arange(10.0)[:, None].expand(-1, 2)
    log_scale = torch.full((10, 2), math.log(0.1))
    model.prior.affine.weight.data = torch.cat([shift, log_scale], 1)
    y = torch.arange(10).repeat(60)
    expected = decode(model, shift.repeat(60, 1), y)
    wrong = (decode(model, torch.randn(600, 2), y) - expected).abs().mean()
    as_a_function = sample(lambda x, y: model(x, y), 600, y, like=images())
    for found in (sample(model, 600, y), as_a_function):
        assert (found - expected).abs().mean() < wrong / 10


def test_moments_of_any_guide():
    """In closed form: from the site's distribution, or from 20,000 draws where it has none."""
    loc, covariance = linear_posterior(X)
    mean, deviation = posterior_moments(linear_guide, X)
    torch.testing.assert_close(mean, loc)
    torch.testing.assert_close(deviation, (1.5 * covariance.diagonal()).sqrt().expand(2, 2))
    mean, deviation = posterior_moments(auxiliary_guide, X, num_samples=20_000)
    assert (mean - loc).abs().max() < 5 * 0.5 / 20_000**0.5
    assert (deviation - 0.5).abs().max() < 5 * 0.5 / 40_000**0.5
    mean, deviation = posterior_moments(hierarchy_guide, PLANE, num_samples=20_000)
    top = math.sqrt(0.8**2 + 0.6**2 / 2)  # over the draws of middle too
    assert (mean["top"] - PLANE.mean(-1)).abs().max() < 5 * top / 20_000**0.5
    assert (deviation["top"] - top).abs().max() < 5 * top / 40_000**0.5
    assert (mean["middle"] - PLANE).abs().max() < 5 * 0.6 / 20_000**0.5
    refined, _ = posterior_moments(Refined(linear, linear_guide), X, num_samples=20_000)
    # its proposals lie at the mean of the draws of their fit, 250 at least
    assert (refined - loc).abs().max() < 5 * 0.5 / 250**0.5


def test_moments_of_autoguides():
    """More images than a block holds: they have numbers of their own for each of them."""
    x = torch.randn(600, 5)
    guide = AutoNormal(linear)
    guide(x)
    mean, deviation = posterior_moments(guide, x, num_samples=4000)
    assert mean.shape == (600, 2)
    scale = guide.scales.code.detach()
    # 1200 comparisons of 6 standard errors: one seed in 400,000
    assert ((mean - guide.locs.code.detach()).abs() < 6 * scale / 4000**0.5).all()
    assert ((deviation - scale).abs() < 6 * scale / 8000**0.5).all()
    point = AutoDelta(linear)
    point(x)
    mean, deviation = posterior_moments(point, x)
    torch.testing.assert_close(mean, point.code.detach())
    assert (deviation == 0).all()
    z, _ = posterior_mean(linear, guide, x, num_samples=20)
    assert z.shape == (600, 2)


def test_posterior_mean_and_samples_of_any_latents():
    """Against the closed forms; 0.05 and 0.1 are more than 5 standard errors."""
    loc, _ = linear_posterior(X)
    mean, ess = posterior_mean(linear, linear_guide, X, num_samples=20_000)
    assert (ess > 5000).all()
    assert (mean - loc).abs().max() < 0.05
    z, _ = posterior_samples(linear, linear_guide, X, num_draws=500, num_samples=20_000)
    assert z.shape == (500, 2, 2)
    assert z.is_contiguous()
    assert abs(off_by(z[:, 0, 1], loc[0, 1])) < 5
    # x_i = top + N(0, 1 + 0.5^2), independent: precision of top 1 + 2 / 1.25
    means, ess = posterior_mean(hierarchy, hierarchy_guide, PLANE, num_samples=50_000)
    assert (ess > 1000).all()
    exact = PLANE.sum(-1) / 1.25 / (1 + 2 / 1.25)
    assert (means["top"] - exact).abs().max() < 0.1
    given = (PLANE / 0.25 + exact[:, None]) / (1 / 0.25 + 1)
    assert (means["middle"] - given).abs().max() < 0.1
    drawn, _ = posterior_samples(hierarchy, hierarchy_guide, PLANE, num_draws=7, num_samples=50)
    assert {name: tuple(z.shape) for name, z in drawn.items()} == {
        "top": (7, 2),
        "middle": (7, 2, 2),
    }


def test_quadrature_takes_a_latent_of_any_name():
    plane = integrate_plane(linear, X)
    torch.testing.assert_close(plane.log_evidence.float(), linear_exact(X), atol=1e-4, rtol=0)
    assert plane.name == "code"
    with pytest.raises(InputError, match=r"one latent, two real numbers.*'top': \(\)"):
        integrate_plane(hierarchy, PLANE)
    with pytest.raises(InputError, match=r"shapes \{'style': \(5,\)\}"):
        integrate_plane(conditional, X, torch.arange(2))


def test_rate_and_distortion_of_any_program():
    """At b = 1 they add up to -log p(x); a guide's rate is the KL of two Gaussians."""
    loc, covariance = linear_posterior(X)
    q = dist.MultivariateNormal(loc, 1.5 * covariance)
    prior = dist.MultivariateNormal(torch.zeros(2), torch.eye(2))
    kl = torch.distributions.kl_divergence(q, prior)
    rate, distortion = guide_rate_distortion(linear, linear_guide, X, num_samples=20_000)
    z = q.sample((20_000,))
    se = (q.log_prob(z) - prior.log_prob(z)).std(0) / 20_000**0.5
    assert (torch.as_tensor(rate).float() - kl).abs().le(5 * se).all()
    elbo = log_likelihood(linear, linear_guide, X, num_samples=20_000).elbo
    np.testing.assert_allclose(rate + distortion, -elbo, atol=0.05)
    found = model_rate_distortion(linear, linear_guide, X, beta=1.0, num_samples=2000)
    np.testing.assert_allclose(-(found.rate + found.distortion), linear_exact(X), atol=0.02)
    # q_b is the posterior with the noise's variance divided by b
    tempered = torch.linalg.inv(torch.eye(2) + 0.3 * W @ W.T / NOISE**2)
    mean = 0.3 * X @ W.T / NOISE**2 @ tempered
    kl = 0.5 * (tempered.trace() + mean.square().sum(1) - 2 - tempered.logdet())
    found = model_rate_distortion(linear, linear_guide, X, beta=0.3, num_samples=4000)
    np.testing.assert_allclose(found.rate, kl, atol=0.05)
    rate, distortion = guide_rate_distortion(hierarchy, hierarchy_guide, PLANE, num_samples=2000)
    elbo = log_likelihood(hierarchy, hierarchy_guide, PLANE, num_samples=2000).elbo
    np.testing.assert_allclose(rate + distortion, -elbo, atol=0.2)


def test_a_function_around_the_packages_model_has_its_rate(trained, digits):
    """The same draws, with log p(z) from the sites and from the prior."""
    model, guide = trained
    x = digits.test_images[:3]
    of_model = guide_rate_distortion(model, guide, x)
    of_function = guide_rate_distortion(lambda x: model(x), guide, x)
    np.testing.assert_allclose(of_function, of_model, rtol=1e-5, atol=1e-3)


def test_the_weights_of_a_method_are_those_it_registers():
    vae = PyroStyle(2)
    result = evaluate(vae.model, vae.guide, images(2), num_samples=100)
    assert result.parameters == sum(w.numel() for w in vae.encoder.parameters())
    assert np.isfinite(result.gaps["sum"]).all()


def test_refusals_are_one_line():
    def sizes(x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("a", dist.Normal(z, 1.0), obs=x[:, 0])
            pyro.sample("b", dist.Normal(z, 1.0), obs=x[:, 1])

    def cauchy(x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.0).to_event(1))
            pyro.sample("x", dist.Cauchy(z, 1.0).to_event(1), obs=x)

    cases = [
        (lambda: decode(linear, torch.zeros(5, 2)), "give like=x"),
        (lambda: decode(linear, torch.zeros(5, 3), like=X), r"code must have shape \(\*, 2\)"),
        (lambda: decode(linear, {"z": torch.zeros(5, 2)}, like=X), r"latents \['code'\], not"),
        (
            lambda: decode(hierarchy, torch.zeros(5, 2), like=PLANE),
            r"a dict of the model's latents \['middle', 'top'\]",
        ),
        (lambda: decode(sizes, torch.zeros(5), like=X), r"one site that observes the images, not"),
        (lambda: decode(cauchy, torch.zeros(5, 5), like=X), "'x', a Independent, has no finite me"),
        (lambda: decode(lambda x: None, torch.zeros(5, 3), like=X), "the model samples nothing"),
        (lambda: decode_style(linear, X[:, :2]), "model must be of class Model, not function"),
        (lambda: encode_style(linear, linear_guide, X, num_samples=1), "must be of class Model"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message) as found:
            call()
        assert len(str(found.value).splitlines()) == 1


def test_moments_of_a_categorical_latent_are_those_of_its_draws():
    """Within 5 standard errors of the mean: one seed in 1.7 million fails."""
    probs = torch.tensor([0.2, 0.3, 0.5])

    def guide(x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("c", dist.Categorical(probs))

    mean, deviation = posterior_moments(guide, torch.zeros(2, 3), num_samples=10_000)
    assert torch.allclose(mean, torch.full((2,), 1.3), atol=5 * math.sqrt(0.61 / 10_000))
    assert torch.allclose(deviation, torch.full((2,), math.sqrt(0.61)), atol=0.03)
