"""Every guide: shapes, densities, gradients, bounds; and each family against what it should be.

Statistical tolerances are 5 standard errors: one seed in 1.7 million fails.
"""

import copy
import io
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.distributions import MixtureSameFamily

from pyro_vae.analysis.comparison import evaluate
from pyro_vae.analysis.gaps import best_in_family, log_weights_at
from pyro_vae.errors import InputError
from pyro_vae.guides import GUIDES
from pyro_vae.guides.flows import InverseAutoregressive, Spline
from pyro_vae.guides.gaussian import FullRank, MeanField
from pyro_vae.guides.mixture import Mixture
from pyro_vae.guides.refined import Refined
from pyro_vae.guides.semi_amortised import maximise_elbo
from pyro_vae.likelihood.estimate import estimate, iwae
from pyro_vae.likelihood.importance import log_likelihood, log_weights
from pyro_vae.likelihood.quadrature import integrate_plane
from pyro_vae.likelihood.traces import draw, log_joint
from pyro_vae.models import Model
from pyro_vae.networks.appendix import Decoder
from pyro_vae.problems import LinearGaussian
from pyro_vae.training.fit import fit
from tests.shared import Numbers

TRAINED = [name for name in GUIDES if name != "prior"]
EVERY = [*GUIDES, "refined"]  # the last is fitted to each image, and has nothing to train or save


@pytest.fixture(scope="module")
def generator(trained):
    model, _ = trained
    return copy.deepcopy(model).requires_grad_(False)


@pytest.fixture(scope="module")
def fitted(generator, digits):
    """Each guide after two epochs on a frozen generator (d = 2), made on demand."""
    made = {}

    def get(name):
        if name not in made:
            if name == "refined":
                return Refined(generator, get("mean_field"))
            torch.manual_seed(1)
            guide = GUIDES[name](generator)
            if name in TRAINED:
                data = (digits.train_images,)
                fit(generator, guide, data, epochs=2, batch_size=50, progress=False)
            made[name] = guide
        return made[name]

    return get


@pytest.mark.parametrize("name", EVERY)
def test_samples_have_the_right_shapes(name, fitted, digits):
    guide, x = fitted(name), digits.test_images[:3]
    for num_samples in (1, 5):
        latents, log_q = draw(guide, [x], num_samples)
        assert list(latents) == ["z"]
        assert latents["z"].shape == (num_samples, 3, 2)
        assert log_q.shape == (num_samples, 3)


@pytest.mark.parametrize("name", EVERY)
def test_the_density_integrates_to_one_and_is_that_of_the_samples(name, fitted, digits):
    guide, rows = fitted(name), [digits.test_images[:1]]
    with torch.no_grad():
        torch.manual_seed(0)
        z, log_q = draw(guide, rows, 20_000)
        z = z["z"][:, 0].double()
        low, high = z.amin(0) - 4 * z.std(0), z.amax(0) + 4 * z.std(0)
        ticks = [torch.linspace(float(a), float(b), 601) for a, b in zip(low, high, strict=True)]
        grid = torch.cartesian_prod(*ticks)
        torch.manual_seed(0)  # the guide that adapts to the image draws the same
        density = log_joint(guide, rows, {"z": grid[:, None]})[:, 0].double().exp()
    density *= math.prod(float(tick[1] - tick[0]) for tick in ticks)
    assert float(density.sum()) == pytest.approx(1, abs=2e-3)
    for power in (1, 2):
        exact = (density[:, None] * grid.double() ** power).sum(0)
        sample = z**power
        assert ((sample.mean(0) - exact).abs() < 5 * sample.std(0) / len(z) ** 0.5 + 1e-3).all()
    entropy = -(density * (density / density.sum()).clamp(min=1e-300).log()).sum()
    cell = math.log(math.prod(float(tick[1] - tick[0]) for tick in ticks))
    assert float(-log_q.double().mean()) == pytest.approx(float(entropy) + cell, abs=0.05)


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_moves(name, generator, digits):
    guide = GUIDES[name](generator)
    before = {key: w.clone() for key, w in guide.named_parameters()}
    frozen = copy.deepcopy(generator.state_dict())
    images = (digits.train_images[:100],)
    fit(generator, guide, images, epochs=1, batch_size=50, progress=False)
    for key, w in guide.named_parameters():
        assert not torch.equal(w, before[key]), key
    for key, w in generator.state_dict().items():
        assert torch.equal(w, frozen[key]), key


@pytest.fixture(scope="module")
def exact(generator, digits):
    """log p(x) of 20 images by quadrature, to 2e-3."""
    return integrate_plane(generator, digits.test_images[:20], points=81).log_evidence.numpy()


@pytest.mark.parametrize("name", EVERY)
def test_elbo_below_iwae_below_log_p(name, fitted, generator, digits, exact):
    """Against quadrature: bounds below it in order, and no image above it by its errors.

    A log q that is wrong by a constant moves every bound by it, up or down: half of the images must
    come within 0.1 nats. The prior's weights say too little for that.
    """
    x = digits.test_images[:20]
    log_w = log_weights(generator, fitted(name), x, num_samples=1000)
    elbo, middle = iwae(log_w, 1).numpy(), iwae(log_w, 10).numpy()
    found = estimate(log_w)
    assert elbo.mean() < middle.mean() < found.value.mean()
    assert elbo.mean() < exact.mean()
    z = (found.value - exact) / np.hypot(found.se, 2e-3)  # the quadrature's own error
    assert z.max() < 5
    if name != "prior":
        assert np.median(np.abs(found.value - exact)) < 0.1


@pytest.fixture(scope="module")
def refined_log_p(fitted, generator, digits):
    """log p(x) of four images by the refined guide, which serves all guides."""
    return log_likelihood(generator, fitted("refined"), digits.test_images[:4], num_samples=1000)


@pytest.mark.parametrize(
    "name",
    [
        "mean_field",
        "mixture",
        "inverse_autoregressive",
        pytest.param("spline", marks=pytest.mark.slow),
    ],
)
def test_the_best_member_is_between_the_guide_and_log_p(
    name, fitted, generator, digits, refined_log_p
):
    """Of 4 images: 1 in 700 gaps is 3 errors below zero by chance alone, 2 of 8 in 17,000 runs."""
    x = digits.test_images[:4]
    found = evaluate(generator, fitted(name), x, log_p=refined_log_p, num_samples=500, gap_images=4)
    for key in ("approximation", "amortisation"):
        low = found.gaps[key] < -3 * found.gap_errors[key] - 2e-3
        assert low.sum() <= 1, key
    assert found.gaps["amortisation"].mean() > 0.05  # the encoder was trained for little


def test_the_best_member_is_found_where_the_encoder_is_at_a_lesser_mode():
    """p(z | x) has 9/10 of its mass at (2, 2), the rest where the encoder points, at (-2, -2).

    By hand: the ELBO of the best Gaussian at a mode that has the share s is log p(x) + log s.
    """

    shares = torch.tensor([0.9, 0.1], dtype=torch.float64)

    def model(x):
        loc = torch.tensor([[2.0, 2.0], [-2.0, -2.0]], dtype=torch.float64).expand(len(x), 2, 2)
        modes = dist.MixtureOfDiagNormals(
            loc,
            torch.full_like(loc, 0.2),
            shares.log().expand(len(x), 2),
        )
        with pyro.plate("data", len(x)):
            pyro.sample("z", modes)
            pyro.sample("x", dist.Normal(torch.zeros_like(x), 1).to_event(1), obs=x)

    x = torch.zeros(3, 2, dtype=torch.float64)
    params = torch.tensor([-2.0, -2.0, *[2 * math.log(0.2)] * 2], dtype=torch.float64)
    guide = Numbers(MeanField(Model(Decoder(2))), params.expand(3, 4))
    log_p = -math.log(2 * math.pi)
    torch.manual_seed(0)
    z = draw(poutine.block(model, hide=["x"]), [x], 100)[0]["z"]
    best = best_in_family(model, guide, [x], z)
    for found, share in ((guide.params, 0.1), (best, 0.9)):
        elbo = log_weights_at(model, guide, found, [x], 2000).mean(0)
        np.testing.assert_allclose(elbo, log_p + math.log(share), atol=0.05)


def test_an_image_whose_gradient_is_not_finite_leaves_the_others_alone():
    """The second image's mixture has collapsed: scales of e^-60, whose gradients overflow."""
    problem = LinearGaussian()
    x = problem.data(2)
    member = Mixture(Model(Decoder(2)))
    torch.manual_seed(0)
    start = 0.1 * torch.randn(2, 20, dtype=torch.float64)
    start[1, 4:] = -120.0
    params = maximise_elbo(problem.model, Numbers(member, start), start, [x], steps=30)
    assert params.isfinite().all()
    assert not torch.equal(params[0], start[0])
    assert torch.equal(params[1], start[1])


@pytest.mark.parametrize("name", GUIDES)
def test_saved_and_loaded_it_is_the_same(name, fitted, generator, digits):
    guide, x = fitted(name), digits.test_images[:4]
    file = io.BytesIO()
    torch.save(guide.state_dict(), file)
    file.seek(0)
    again = GUIDES[name](generator)
    again.load_state_dict(torch.load(file, weights_only=True))
    z = torch.randn(3, 4, 2)
    scores = []
    for which in (guide, again):
        torch.manual_seed(0)
        scores.append(log_joint(which, [x], {"z": z}))
    assert torch.equal(*scores)


@pytest.mark.parametrize("name", GUIDES)
def test_it_works_with_labels(name, digits):
    torch.manual_seed(0)
    model = Model(Decoder(3, num_classes=10))
    guide = GUIDES[name](model)
    x, y = digits.test_images[:6], digits.test_labels[:6]
    found = log_likelihood(model, guide, x, y, num_samples=10)
    assert found.value.shape == (6,)
    before = copy.deepcopy(model.state_dict())
    train = (digits.train_images[:100], digits.train_labels[:100])
    fit(model, guide, train, epochs=1, batch_size=50, progress=False)
    assert any(not torch.equal(w, before[key]) for key, w in model.state_dict().items())
    if name != "prior":  # q(z | x, y) depends on y
        z = torch.randn(2, 6, 3)
        scores = []
        for labels in (y, (y + 1) % 10):
            torch.manual_seed(0)
            scores.append(log_joint(guide, [x, labels], {"z": z}))
        assert (scores[0] != scores[1]).any(0).all()


@pytest.mark.parametrize("family", [InverseAutoregressive, Spline])
def test_a_flows_density_is_that_of_its_jacobian(family):
    """log q(z) = log N(e; 0, I) - log |det dz/de|, the Jacobian by automatic differentiation."""
    torch.manual_seed(0)
    guide = family(Model(Decoder(3)))
    for w in guide.layers.parameters():
        w.data += 0.3 * torch.randn_like(w)  # away from the near-identity of the start
    guide.double()
    params = torch.randn(1, 6 + 32, dtype=torch.float64)
    q = guide.distribution(params)

    def push(e):
        z = e[None]
        for transform in q.transforms:
            z = transform(z)
        return z[0]

    for _ in range(5):
        e = torch.randn(3, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(push, e)
        expected = torch.distributions.Normal(0, 1).log_prob(e).sum()
        expected = expected - torch.linalg.slogdet(jacobian).logabsdet
        z = push(e)[None].clone()  # a value of its own: nothing cached
        torch.testing.assert_close(q.log_prob(z)[0], expected, atol=1e-6, rtol=1e-6)
        assert jacobian.abs().gt(1e-6).sum() > 3  # the coordinates are coupled


def test_full_rank_has_the_covariance_of_its_factor():
    guide = FullRank(Model(Decoder(3)))
    params = torch.tensor([[1.0, 2.0, 3.0, 0.0, 2 * math.log(2), 0.0, 0.5, -1.0, 0.25]])
    factor = torch.tensor([[1.0, 0, 0], [1.0, 2.0, 0], [-1.0, 0.25, 1.0]])
    q = guide.distribution(params)
    torch.testing.assert_close(q.mean, params[:, :3])
    torch.testing.assert_close(q.covariance_matrix[0], factor @ factor.T)


def test_mixture_is_torchs_mixture():
    torch.manual_seed(0)
    guide = Mixture(Model(Decoder(3)))
    params, z = torch.randn(5, 4 * 7), torch.randn(2, 5, 3)
    logits, rest = params[:, :4], params[:, 4:].unflatten(1, (4, 6))
    parts = torch.distributions.Normal(rest[..., :3], (rest[..., 3:] / 2).exp())
    expected = MixtureSameFamily(
        torch.distributions.Categorical(logits=logits), torch.distributions.Independent(parts, 1)
    )
    q = guide.distribution(params)
    torch.testing.assert_close(q.log_prob(z), expected.log_prob(z), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", [MeanField, FullRank])
def test_the_optimum_of_a_gaussian_family_is_known(family):
    """For a posterior N(m, inv(P)) mean-field's q* is N(m, 1 / diag(P)); full rank's is itself.

    The steps use 256 draws; what their noise leaves, 0.03 in each number, is 10 times smaller than
    the way from the start.
    """
    problem = LinearGaussian()
    x = problem.data(6)
    loc, covariance = problem.posterior(x)
    member = family(Model(Decoder(2)))
    outputs = 4 if family is MeanField else 5
    guide = Numbers(member, torch.zeros(6, outputs, dtype=torch.float64))
    torch.manual_seed(0)
    params = maximise_elbo(problem.model, guide, guide.params, [x], steps=400, draws=256)
    q = member.distribution(params)
    torch.testing.assert_close(q.mean, loc, atol=0.03, rtol=0)
    if family is MeanField:
        expected = (1 / torch.linalg.inv(covariance).diagonal()).expand(6, -1)
        torch.testing.assert_close(q.variance, expected, atol=0.01, rtol=0.05)
    else:
        expected = covariance.expand(6, -1, -1)
        torch.testing.assert_close(q.covariance_matrix, expected, atol=0.01, rtol=0.05)
        z = draw(problem.wide_guide, [x], 100)[0]["z"]
        best = best_in_family(problem.model, guide, [x], z, steps=400, draws=256)
        elbo = log_weights_at(problem.model, guide, best, [x], 2000).mean(0)
        torch.testing.assert_close(elbo, problem.log_likelihood(x), atol=0.01, rtol=0)


@pytest.mark.parametrize("family", [MeanField, FullRank, Mixture, InverseAutoregressive, Spline])
def test_every_family_climbs_to_each_images_own_posterior(family):
    """From numbers that say nothing of the image, for images whose posteriors lie far apart."""
    problem = LinearGaussian(noise=0.3)
    x = problem.data(6) + 3 * torch.arange(6).double()[:, None]
    torch.manual_seed(0)
    member = family(Model(Decoder(2))).double()
    outputs = member.encoder.g[-1].out_features
    guide = Numbers(member, 0.1 * torch.randn(6, outputs, dtype=torch.float64))
    params = maximise_elbo(problem.model, guide, guide.params, [x], steps=400, draws=16)
    q = member.distribution(params)
    z = q.expand((500, 6)).rsample()
    loc, covariance = problem.posterior(x)
    off = (z.mean(0) - loc).abs() / covariance.diagonal().sqrt()
    assert off.max() < 1  # of hundreds at the start
    assert (loc[0] - loc[5]).abs().max() > 10 * covariance.diagonal().max() ** 0.5


def test_semi_amortised_is_nearer_than_its_encoder(fitted, generator, digits):
    x = digits.test_images[:30]
    guide = fitted("semi_amortised")
    plain = MeanField(generator)
    plain.load_state_dict(guide.state_dict())
    after = log_likelihood(generator, guide, x, num_samples=500).elbo
    before = log_likelihood(generator, plain, x, num_samples=500).elbo
    gain = after - before
    assert gain.mean() > 5 * gain.std(ddof=1) / len(x) ** 0.5


@pytest.mark.parametrize("family", [InverseAutoregressive, Spline])
def test_a_flow_scores_its_own_samples_without_inverting(family, digits):
    """Each map's network runs once to draw, and not d times more to score what was drawn."""
    guide = family(Model(Decoder(6)))
    calls = []
    for layer in guide.layers:
        layer.nn.register_forward_hook(lambda *_: calls.append(1))
    draw(guide, [digits.test_images[:2]], 3)  # the first time it is tried in two ways
    calls.clear()
    draw(guide, [digits.test_images[:2]], 3)
    assert len(calls) == len(guide.layers)


def test_a_flow_needs_two_dimensions():
    with pytest.raises(InputError, match="latent_dim >= 2"):
        InverseAutoregressive(Model(Decoder(1)))
