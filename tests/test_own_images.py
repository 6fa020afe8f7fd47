"""The model and its guides over a user's own networks, for images of any shape.

log p(x) is held against the closed form, within 5 standard errors: seeded, and by the normal
approximation one image in 1.7 million is further off.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.analysis.comparison import compare, evaluate
from pyro_vae.analysis.completion import complete
from pyro_vae.errors import InputError
from pyro_vae.guides import AMORTISED
from pyro_vae.guides.gaussian import FullRank, MeanField
from pyro_vae.guides.prior import PriorGuide
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.annealing import annealed_log_likelihood
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.traces import simulate
from pyro_vae.models import ContinuousBernoulli, GreyBernoulli, Model
from pyro_vae.priors import StandardPrior
from pyro_vae.training.fit import fit
from pyro_vae.vae import Vae

SHAPES = [(), (5,), (2, 3), (3, 2, 2), (1, 2, 2, 2)]
NOISE = 0.5


class OwnEncoder(nn.Module):
    """As users write it: no `g`, no `f`, and nothing of 28 x 28."""

    numbers = 12  # of an image

    def __init__(self, num_params, precision, num_classes):
        super().__init__()
        self.net = nn.Linear(self.numbers, num_params)
        self.asked = (num_params, precision, num_classes)

    def forward(self, x):
        return self.net(x.flatten(1))


class Linear(nn.Module):
    """Logits W z of images of a given shape."""

    latent_dim = 2

    def __init__(self, shape=(3, 2, 2)):
        super().__init__()
        self.net, self.shape = nn.Linear(2, math.prod(shape), bias=False), shape

    def forward(self, z):
        return self.net(z).reshape(*z.shape[:-1], *self.shape)


class WithEncoder(Linear):
    encoder = OwnEncoder


def normal(logits):
    return dist.Normal(logits, NOISE)


def gaussian_problem(shape, make=Linear):
    """A model with Gaussian pixels, four images of it, and their exact log p(x)."""
    torch.manual_seed(0)
    model = Model(make(shape), normal).double()
    w = model.decoder.net.weight.detach()
    x = torch.randn(4, 2).double() @ w.T + NOISE * torch.randn(4, len(w)).double()
    covariance = w @ w.T + NOISE**2 * torch.eye(len(w)).double()
    exact = torch.distributions.MultivariateNormal(torch.zeros(len(w)).double(), covariance)
    return model, x.reshape(4, *shape), exact.log_prob(x).numpy()


@pytest.mark.parametrize("shape", SHAPES)
def test_log_p_of_images_of_any_shape_is_exact(shape):
    """Gaussian pixels, outside [0, 1] too; an image may be a single number."""
    model, x, exact = gaussian_problem(shape)
    found = log_likelihood(model, PriorGuide(model), x, num_samples=20_000)
    assert (x < 0).any()
    assert (np.abs(found.value - exact) < 5 * found.se).all()
    assert found.se.max() < 0.1


@pytest.mark.parametrize("name", [*AMORTISED, "refined"])
def test_every_guide_takes_a_users_own_networks(name):
    model, x, exact = gaussian_problem((3, 2, 2), WithEncoder)
    guide = AMORTISED.get(name, MeanField)(model)
    guide.double()
    fit(model.requires_grad_(False), guide, (x,), epochs=20, learning_rate=0.01, progress=False)
    scored = Refined(model, guide) if name == "refined" else guide
    found = log_likelihood(model, scored, x, num_samples=5_000)
    assert (np.abs(found.value - exact) < 5 * found.se + 1e-6).all()
    assert found.se.max() < 0.2


def test_the_gaps_of_a_users_own_networks():
    model, x, _ = gaussian_problem((3, 2, 2), WithEncoder)
    found = evaluate(model, MeanField(model).double(), x, num_samples=500, gap_images=4)
    assert found.gaps["amortisation"].mean() > 0


def test_full_rank_starts_near_uncorrelated_coordinates_whatever_the_encoder():
    class Encoder(OwnEncoder):
        def __init__(self, num_params, *options):
            super().__init__(num_params, *options)
            self.slope = nn.Parameter(torch.tensor(1.0))
            nn.init.ones_(self.net.weight)

    class Own(Linear):
        encoder = Encoder

    weight = FullRank(Model(Own())).encoder.net.weight
    assert torch.equal(weight, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.1])[:, None].expand(5, 12))


@pytest.mark.parametrize(("num_classes", "asked"), [(None, 0), (0, 0), (7, 7)])
def test_the_encoder_is_told_of_the_decoders_classes_where_it_has_any(num_classes, asked):
    decoder = WithEncoder()
    if num_classes is not None:
        decoder.num_classes = num_classes
    assert MeanField(Model(decoder), "float32").encoder.asked == (4, "float32", asked)


@pytest.mark.parametrize("pixels", [GreyBernoulli, ContinuousBernoulli, dist.Bernoulli])
def test_colour_images_train_and_are_scored(pixels):
    class ColourEncoder(OwnEncoder):
        numbers = 3 * 32 * 32

    class Colour(nn.Module):
        latent_dim, encoder = 8, ColourEncoder

        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 3 * 32 * 32)

        def forward(self, z):
            return self.net(z).unflatten(-1, (3, 32, 32))

    x = torch.rand(20, 3, 32, 32).round()
    model = Model(Colour(), pixels)
    guide = MeanField(model)
    history = fit(model, guide, (x,), (x,), epochs=3, batch_size=5, progress=False)
    assert history[-1]["train_elbo"] > history[0]["train_elbo"]
    assert log_likelihood(model, guide, x, num_samples=5).value.shape == (20,)


class Deconvolution(nn.Module):
    """A decoder as users write it: it takes one leading dimension, and makes colour or any size."""

    latent_dim = 3

    def __init__(self, shape):
        super().__init__()
        self.shape, self.grid = shape, (4, shape[1] // 2, shape[2] // 2)
        self.first, self.up = (
            nn.Linear(3, math.prod(self.grid)),
            nn.ConvTranspose2d(4, shape[0], 2, 2),
        )

    def encoder(self, num_params, precision, num_classes):
        return nn.Sequential(
            nn.Conv2d(self.shape[0], 4, 2, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(math.prod(self.grid), num_params),
        )

    def forward(self, z):
        return self.up(torch.relu(self.first(z)).reshape(-1, *self.grid))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 16, 20)])
def test_all_that_a_vae_does_is_done_to_images_of_any_shape(shape, tmp_path, capsys):
    torch.manual_seed(0)
    x, model = torch.rand(6, *shape), Model(Deconvolution(shape))
    guide = MeanField(model, "float32")
    fit(model, guide, (x,), (x,), epochs=1, progress=False)
    other = Model(Deconvolution(shape))
    for vae in (Vae(model, guide, example=x[:1]), Vae(model, guide)):
        assert vae.latent_dim == 3
        assert vae.sample(2).shape == (2, *shape)
        assert vae.decode(torch.zeros(2, 4, 3)).shape == (2, 4, *shape)
        assert vae.reconstruct(x, num_samples=2).shape == (2, 6, *shape)
        assert vae.interpolate(x[:2], x[2:4], steps=3).shape == (3, 2, *shape)
        vae.save(tmp_path / "own.pt")
        copy = Vae.load(tmp_path / "own.pt", model=other, guide=MeanField(other, "float32"))
        assert torch.equal(copy.reconstruct(x), vae.reconstruct(x))
        refined = vae.refined(num_starts=1, newton_steps=2, samples_per_round=(50,))
        assert np.isfinite(refined.log_likelihood(x[:2], num_samples=20).value).all()
    for mask in (x[:2] > 0.5, torch.rand(shape[1:]) > 0.5):
        done = complete(model, refined.guide, x[:2], mask, num_samples=20, num_draws=2).images
        assert done.shape == (2, 2, *shape)
        assert torch.equal(
            done[:, mask.expand(2, *shape)], x[:2][mask.expand(2, *shape)].expand(2, -1)
        )
    assert np.isfinite(annealed_log_likelihood(model, guide, x[:2], num_steps=2).value).all()
    assert simulate(model, x)[0].shape == x.shape
    if shape[0] == 1:
        compare(model, {"mean field": guide}, x[:1], progress=False)
        assert "mean field" in capsys.readouterr().out


def test_draws_of_pixels_are_the_models_own():
    """Normal pixels: mean and deviation of 5,000 draws within 5 standard errors, one in 10^6."""
    model = Model(Linear((2, 2)), normal)
    assert {*Vae(Model(Linear((2, 2))), None).sample(50, pixels=True).unique().tolist()} == {0, 1}
    means, draws = (
        Vae(model, None).sample(5_000, pixels=pixels, seed=3) for pixels in (False, True)
    )
    off = (draws - means).flatten()
    assert abs(off.mean()) < 5 * NOISE / 20_000**0.5
    assert abs(off.std() - NOISE) < 5 * NOISE / 40_000**0.5
    assert len(draws.unique()) > 19_000
    assert torch.equal(draws, Vae(model, None).sample(5_000, pixels=True, seed=3))
    grey = Vae(Model(Linear((2, 2)), ContinuousBernoulli), None).sample(5_000, pixels=True)
    assert 0 <= grey.min() <= grey.max() <= 1
    assert ((grey > 0) & (grey < 1)).float().mean() > 0.99


@pytest.mark.parametrize(
    ("shape", "images", "message"),
    [
        ((12,), (4, 3, 2, 2), r"Linear must give logits \(4, 3, 2, 2\) .*\(4, 12\)$"),
        ((3, 2, 2), (4, 12), r"\(4, 12\) for images \(4, 12\), not float32 \(4, 3, 2, 2\)$"),
        ((2, 2), (4, 1, 2, 2), r"\(4, 1, 2, 2\) for images .*, not float32 \(4, 2, 2\)$"),
        ((1, 2), (4, 3, 2), r"\(4, 3, 2\) for images \(4, 3, 2\), not float32 \(4, 1, 2\)$"),
    ],
)
def test_logits_of_another_shape_are_named(shape, images, message):
    """Pyro would broadcast the last two, and score each pixel several times."""
    model = Model(Linear(shape))
    with pytest.raises(InputError, match=message):
        model(torch.rand(images))


def test_logits_that_lose_the_images_or_the_samples_are_named():
    class Joined(Linear):
        def forward(self, z):
            return super().forward(z).reshape(-1, *self.shape)

    model = Model(Joined(), prior=StandardPrior(2))
    model(torch.rand(4, 3, 2, 2))
    with pytest.raises(InputError, match=r"logits \(5, 4, 3, 2, 2\) .*, not float32 \(20, 3, 2, 2"):
        pyro.plate("particles", 5, dim=-2)(model)(torch.rand(4, 3, 2, 2))

    class Pair(Linear):
        def forward(self, z):
            return super().forward(z), z

    with pytest.raises(InputError, match=r"Pair must give logits \(4, 3, 2, 2\) .*, not tuple"):
        Model(Pair())(torch.rand(4, 3, 2, 2))


@pytest.mark.parametrize("pixels", [GreyBernoulli, ContinuousBernoulli, dist.Bernoulli])
@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf])
def test_pixels_outside_the_unit_interval_are_refused_where_the_distribution_is_on_it(pixels, bad):
    x = torch.rand(4, 3, 2, 2).round()
    Model(Linear(), pixels)(x)
    with pytest.raises(InputError, match=r"pixels in \[0, 1\] without NaN, not in .*: divide"):
        Model(Linear(), pixels)(x.index_fill(1, torch.tensor([1]), bad))


def test_a_distribution_that_names_no_support_is_not_held_to_the_unit_interval():
    class Own(dist.Normal):
        @property
        def support(self):
            raise NotImplementedError

    Model(Linear(), lambda logits: Own(logits, 1, validate_args=False))(5 * torch.ones(4, 3, 2, 2))


@pytest.mark.parametrize("make", [Model, lambda d: PriorGuide(Model(d))], ids=["model", "prior"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(4, 3, 2, 2, dtype=torch.uint8), "images must be float32 or float64, not uint8"),
        (torch.rand(0, 3, 2, 2), r"images must have shape \(B, ...\), B >= 1"),
        (torch.tensor(0.5), r"images must have shape \(B, ...\), B >= 1, not float32 \(\)"),
        (np.ones((4, 3, 2, 2)), r"images must be a tensor, not float64 \(4, 3, 2, 2\)"),
    ],
)
def test_what_are_no_images_is_named(make, x, message):
    with pytest.raises(InputError, match=message):
        make(Linear())(x)


def test_what_a_decoder_lacks_is_named():
    plain = nn.Linear(2, 12)
    with pytest.raises(InputError, match="decoder must have a latent_dim, for its prior"):
        Model(plain)
    assert Model(plain, prior=StandardPrior(2)).latent_dim == 2
    with pytest.raises(InputError, match="decoder Linear must name the class of its encoder"):
        MeanField(Model(plain, prior=StandardPrior(2)))
    prior = nn.Identity()
    with pytest.raises(InputError, match="decoder must have a latent_dim: the number d"):
        MeanField(Model(plain, prior=prior))
