"""Priors: a density that integrates to one, a bijection that is one, learning that moves it."""

import pytest
import torch
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.models import Model
from pyro_vae.networks.dense import DenseDecoder
from pyro_vae.priors import PRIORS, LearnedPrior, StandardPrior
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae, load_vae, save_vae


def stirred(latent_dim, num_classes, seed=0):
    """A learned prior whose weights are no longer those of the identity."""
    torch.manual_seed(seed)
    prior = LearnedPrior(latent_dim, num_classes).double()
    for w in prior.parameters():
        nn.init.normal_(w, std=0.08)
    return prior


def labels(num_classes, images=3):
    return (torch.arange(images) % num_classes,) if num_classes else ()


@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize("latent_dim", [1, 2, 20])
def test_style_and_latent_are_inverse_and_the_density_is_that_of_the_map(latent_dim, num_classes):
    prior, y = stirred(latent_dim, num_classes), labels(num_classes)
    style = torch.randn(5, 3, latent_dim, dtype=torch.float64)
    z = prior.latent(style, *y)
    assert not torch.allclose(z, style, atol=0.01)
    torch.testing.assert_close(prior.style(z, *y), style)
    # change of variables, the Jacobian by automatic differentiation
    one, x = style[0], torch.zeros(3, 1, 28, 28, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda e: prior.latent(e, *y).sum(0), one)
    log_det = torch.linalg.slogdet(jacobian.permute(1, 0, 2)).logabsdet
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(one).sum(-1) - log_det
    torch.testing.assert_close(prior(x, *y).log_prob(z[0]), expected)


def test_each_image_has_the_prior_of_its_own_label():
    prior, y = stirred(3, 10), torch.tensor([4, 7, 4])
    style, x = torch.randn(5, 3, 3, dtype=torch.float64), torch.zeros(3, 1, 28, 28).double()
    z = prior.latent(style, y)
    log_p = prior(x, y).log_prob(style)
    for b in range(3):
        own = slice(b, b + 1)
        torch.testing.assert_close(prior.latent(style[:, own], y[own]), z[:, own])
        torch.testing.assert_close(prior(x[own], y[own]).log_prob(style[:, own]), log_p[:, own])
    same, other = (prior.latent(style[:, :1], torch.tensor([label])) for label in (4, 7))
    torch.testing.assert_close(same, z[:, :1])
    assert not torch.allclose(same, other, atol=0.01)


def test_the_density_integrates_to_one():
    prior, x = stirred(2, 10), torch.zeros(3, 1, 28, 28, dtype=torch.float64)
    ticks = torch.linspace(-9, 9, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(ticks, ticks)[:, None].expand(-1, 3, -1)
    mass = prior(x, *labels(10)).log_prob(grid).exp().sum(0) * (ticks[1] - ticks[0]) ** 2
    torch.testing.assert_close(mass, torch.ones(3, dtype=torch.float64), atol=1e-3, rtol=0)


def test_draws_follow_the_density():
    """The mean style of draws is zero within 5 standard errors; fails for 1 seed in 10^5."""
    prior, x = stirred(3, 10), torch.zeros(3, 1, 28, 28, dtype=torch.float64)
    torch.manual_seed(1)
    z = prior(x, *labels(10)).sample((4000,))
    style = prior.style(z, *labels(10))
    assert z.shape == (4000, 3, 3)
    assert style.mean(0).abs().max() < 5 / 4000**0.5
    assert (style.var(0) - 1).abs().max() < 5 * (2 / 4000) ** 0.5


@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize("kind", list(PRIORS))
def test_untrained_every_prior_is_standard(kind, num_classes):
    prior, z = PRIORS[kind](4, num_classes), torch.randn(6, 3, 4)
    expected = StandardPrior(4)(torch.zeros(3, 1, 28, 28)).log_prob(z)
    found = prior(torch.zeros(3, 1, 28, 28), *labels(num_classes)).log_prob(z)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(prior.latent(z, *labels(num_classes)), z)


def test_labels_are_asked_for_and_refused():
    x = torch.zeros(3, 1, 28, 28)
    with pytest.raises(InputError, match="takes labels y of 10 classes: give them once"):
        LearnedPrior(2, 10)(x)
    with pytest.raises(InputError, match="one int64 label for each of 3 images, not int64"):
        LearnedPrior(2, 10)(x, torch.arange(1))
    with pytest.raises(InputError, match="y must hold labels from 0 to 9"):
        LearnedPrior(2, 10)(x, torch.tensor([0, 10, 1]))
    with pytest.raises(InputError, match="takes no labels: leave them out"):
        LearnedPrior(2)(x, torch.arange(3))
    with pytest.raises(InputError, match="prior 'flat' is unknown: choose from standard, learned"):
        build_vae(2, prior="flat")


def test_training_moves_every_weight_of_the_prior(digits):
    torch.manual_seed(0)
    model = Model(DenseDecoder(3, 10), prior=LearnedPrior(3, 10))
    before = {name: w.clone() for name, w in model.prior.named_parameters()}
    rows = (digits.train_images[:300], digits.train_labels[:300])
    fit(model, MeanField(model), rows, epochs=2, progress=False)
    for name, w in model.prior.named_parameters():
        assert not torch.equal(w, before[name]), name


def test_a_learned_prior_comes_back_from_its_checkpoint(tmp_path):
    model, guide = build_vae(3, num_classes=10, prior="learned")
    for w in model.prior.parameters():
        nn.init.normal_(w, std=0.1)
    config = {"latent_dim": 3, "precision": "float32", "num_classes": 10, "prior": "learned"}
    save_vae(tmp_path / "some.pt", model, guide, config)
    again, _, found = load_vae(tmp_path / "some.pt")
    assert found == config
    z, y = torch.randn(4, 3), torch.arange(4)
    assert torch.equal(model.prior.latent(z, y), again.prior.latent(z, y))
