"""Starts for the search of modes: the best of candidates that the images share."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_vae.guides import starts as starts_module
from pyro_vae.guides.posterior import Posterior
from pyro_vae.guides.starts import starts
from pyro_vae.likelihood.coordinates import coordinates_of
from pyro_vae.models import Model
from pyro_vae.vae import Vae


def two_modes(x):
    """x ~ N(|z|, 0.1^2): z is near x, or near -x."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.abs(), 0.1).to_event(1), obs=x)


def posterior_of(model, *batch):
    return Posterior(model, [*batch], coordinates_of(model, [*batch], ["z"]), {})


def counted(monkeypatch):
    """Count the calls of the search that is each image's own."""
    calls, own = [], starts_module._own
    monkeypatch.setattr(starts_module, "_own", lambda *args: (calls.append(1), own(*args))[1])
    return calls


def test_both_modes_are_found_and_the_mean_is_the_first(monkeypatch):
    calls = counted(monkeypatch)
    x = torch.tensor([[0.5], [1.0], [2.0]])
    found = starts(posterior_of(two_modes, x), x, 2)  # the mean is the first mode
    assert torch.equal(found[0], x)
    assert (found[1] + x).abs().max() < 0.2
    assert not calls


def test_one_start_is_the_mean():
    x = torch.rand(3, 1)
    assert torch.equal(starts(posterior_of(two_modes, x), x, 1), x[None])


def test_the_scores_are_those_of_the_model(monkeypatch):
    """For grey pixels and their labels too: the differences of log p(x, z) are those of scores."""
    vae = Vae.build(2, architecture="dense", num_classes=3, precision="float32")
    x, y = torch.rand(6, 1, 28, 28), torch.arange(6) % 3
    calls = counted(monkeypatch)
    found = starts(posterior_of(vae.model, x, y), torch.zeros(6, 2), 4)
    assert found.shape == (4, 6, 2)
    assert not calls
    one = posterior_of(vae.model, x[:2], y[:2])
    candidates = torch.randn(50, 2)
    same = posterior_of(vae.model, x[[0, 0]], y[[0, 0]])
    scores = starts_module._scores(same, candidates)
    exact = one.log_joint(candidates[:, None].expand(50, 2, 2))[:, 0]
    torch.testing.assert_close(scores[:, 0] - scores[0, 0], exact - exact[0], rtol=1e-4, atol=1e-3)


def test_images_with_labels_of_their_own_share_none(monkeypatch):
    def model(x, y):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.abs() * y, 0.1).to_event(1), obs=x)

    calls = counted(monkeypatch)
    x = torch.rand(20, 1)
    found = starts(posterior_of(model, x, torch.rand(20, 1)), x, 3)
    assert found.shape == (3, 20, 1)
    assert calls


@pytest.mark.parametrize("count", [2, 3])
def test_pixels_that_see_the_image_share_none(monkeypatch, count):
    """The decoder is given x: what one image's candidates decode to is not another's."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + 5 * x, 0.1).to_event(1), obs=x)

    calls = counted(monkeypatch)
    x = torch.rand(20, 1)
    assert starts(posterior_of(model, x), x, count).shape == (count, 20, 1)
    assert calls


@pytest.mark.parametrize("pixels", [lambda x: x[:, :1], lambda x: torch.cat([x, x], -1)])
def test_models_of_other_pixels_than_the_images_share_none(monkeypatch, pixels):
    """Of some of them, or of each of them twice."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            loc = z.abs().expand(*z.shape[:-1], pixels(x).shape[1])
            pyro.sample("x", dist.Normal(loc, 0.1).to_event(1), obs=pixels(x))

    calls = counted(monkeypatch)
    x = torch.rand(20, 3)
    assert starts(posterior_of(model, x), x[:, :1], 3).shape == (3, 20, 1)
    assert calls


def test_a_distribution_of_no_known_family_shares_none(monkeypatch):
    calls = counted(monkeypatch)
    vae = Vae.build(2, architecture="dense", precision="float32")
    model = Model(vae.model.decoder, lambda logits: dist.StudentT(3.0, logits, 1.0))
    x = torch.rand(3, 1, 28, 28)
    assert starts(posterior_of(model, x), torch.zeros(3, 2), 3).shape == (3, 3, 2)
    assert calls
