"""The posterior of an image as a function of u: its integral is p(x)."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_vae.errors import InputError
from pyro_vae.guides.posterior import Posterior, pieces
from pyro_vae.likelihood import importance
from pyro_vae.likelihood.coordinates import coordinates_of

SHAPE, RATE = 3.0, 1.5
X = torch.tensor([[0.0], [2.0], [7.0]]).double()


def counts(x):
    """A positive latent: z ~ Gamma, x ~ Poisson(z), so that x is negative binomial."""
    with pyro.plate("data", len(x)):
        prior = dist.Gamma(x.new_tensor(SHAPE), RATE).expand([1]).to_event(1)
        z = pyro.sample("z", prior)
        pyro.sample("x", dist.Poisson(z).to_event(1), obs=x)


@pytest.fixture
def posterior():
    return Posterior(counts, [X], coordinates_of(counts, [X], ["z"]), held={})


def test_it_integrates_to_the_evidence(posterior):
    u = torch.linspace(-12, 6, 4001).double()
    log_p = posterior.log_joint(u[:, None, None].expand(-1, len(X), 1))
    evidence = torch.trapezoid(log_p.exp(), u, dim=0)
    exact = dist.NegativeBinomial(SHAPE, probs=1 / (1 + RATE)).log_prob(X[:, 0])
    torch.testing.assert_close(evidence.log(), exact, rtol=0, atol=1e-6)


def test_prior_and_observed_sites_make_the_whole(posterior):
    u = torch.tensor([-1.0, 0.5]).double()[:, None, None].expand(-1, len(X), 1)
    log_prior, (site,) = posterior.parts(u)
    assert site.name == "x"
    torch.testing.assert_close(log_prior + site.log_prob, posterior.log_joint(u))


def test_a_model_that_observes_nothing_is_refused(posterior):
    def blind(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Gamma(x.new_tensor(SHAPE), RATE).expand([1]).to_event(1))

    with pytest.raises(InputError, match="observes nothing"):
        posterior._replace(model=blind).log_joint(torch.zeros(2, len(X), 1).double())


def test_a_piece_has_a_draw_of_each_image_at_least(monkeypatch):
    monkeypatch.setitem(importance.CHUNK, "cpu", 10)
    for images, draws in ((5, 2), (10, 1), (11, 1)):
        assert {len(piece) for piece in pieces(torch.zeros(8, images, 2))} == {draws}
