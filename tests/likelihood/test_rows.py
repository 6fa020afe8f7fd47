"""Networks that take one leading dimension: the samples go through them as rows of a batch.

Estimates are within 5 of their standard errors: each image fails for one seed in 1.7 million.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.annealing import annealed_log_likelihood
from pyro_vae.likelihood.importance import log_likelihood
from tests.programs import hierarchy, hierarchy_exact, within

MIX = 0.5 * torch.randn(2, 18, generator=torch.Generator().manual_seed(2))


class Upwards(nn.Module):
    """z @ MIX by the usual ConvTranspose2d."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 2, 3, bias=False)
        self.up.weight.data = MIX.view(2, 2, 3, 3)

    def forward(self, z):
        return self.up(z.view(-1, 2, 1, 1)).flatten(1)


def first_columns(z):
    return torch.stack([z[:, 0], z[:, 1]], 1) @ MIX


def concatenated(z):
    return torch.cat([z, torch.ones(len(z), 1)], 1)[:, :2] @ MIX


def normalised(z):
    """Softmax over dimension 1, undone by the logarithm but for a constant in each image."""
    log_p = torch.log_softmax(z, 1)
    return (log_p + torch.logsumexp(z, 1, keepdim=True)) @ MIX


def centred(z):
    """The mean over dimension 1 is of the wrong numbers where samples come first; no error."""
    return (z - z.mean(1, keepdim=True) + z.mean(1, keepdim=True)) @ MIX + 0 * z.sum()


def softmaxed(z):
    return torch.softmax(z, 1) @ MIX


def decoded(decoder):
    def model(x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 0.5).to_event(1), obs=x)

    return model


def encode(x):
    covariance = torch.linalg.inv(torch.eye(2) + MIX @ MIX.T / 0.25)
    with pyro.plate("data", x.shape[0]):
        loc = x @ MIX.T / 0.25 @ covariance
        pyro.sample("z", dist.MultivariateNormal(loc, 1.5 * covariance))


@pytest.mark.parametrize("decoder", [Upwards(), first_columns, concatenated, normalised, centred])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_decoders_of_one_leading_dimension(decoder, count):
    """As many samples as images too: a wrong dimension has the right size then."""
    x = torch.randn(count, 2) @ MIX + 0.5 * torch.randn(count, 18)
    exact = dist.MultivariateNormal(torch.zeros(18), MIX.T @ MIX + 0.25 * torch.eye(18)).log_prob(x)
    model = decoded(decoder)
    within(log_likelihood(model, encode, x, num_samples=1000), exact)
    pair = log_likelihood(model, encode, x.repeat(200 // count, 1), num_samples=count)
    ratio = np.exp(pair.value - exact.repeat(200 // count).numpy())
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(len(ratio))


def test_a_decoder_that_is_silently_wrong_with_samples_first():
    """Softmax over dimension 1, by quadrature in the difference of the two latents."""
    x = torch.rand(3, 18)
    model = decoded(softmaxed)
    difference = torch.linspace(-12, 12, 4001).double()
    z = torch.stack([difference, torch.zeros_like(difference)], 1)
    mean = torch.softmax(z, 1) @ MIX.double()
    log_p = dist.Normal(mean[:, None], 0.5).log_prob(x.double()).sum(-1)
    log_p = log_p + dist.Normal(0.0, math.sqrt(2)).log_prob(difference)[:, None]
    exact = log_p.logsumexp(0) + math.log(24 / 4000)

    def prior(x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    within(log_likelihood(model, prior, x, num_samples=2000), exact)


def test_such_a_decoder_is_refined_and_annealed():
    x = torch.randn(3, 2) @ MIX + 0.5 * torch.randn(3, 18)
    exact = dist.MultivariateNormal(torch.zeros(18), MIX.T @ MIX + 0.25 * torch.eye(18)).log_prob(x)
    model = decoded(Upwards())
    refined = Refined(model, encode, num_starts=2, samples_per_round=(100, 200))
    within(log_likelihood(model, refined, x, num_samples=500), exact)
    within(annealed_log_likelihood(model, encode, x, num_steps=10), exact)


def test_a_guide_whose_second_network_takes_one_leading_dimension():
    turn = nn.Conv1d(2, 1, 1, bias=False)
    turn.weight.data.fill_(0.5)

    def guide(x):
        with pyro.plate("data", x.shape[0]):
            middle = pyro.sample("middle", dist.Normal(x, 0.6).to_event(1))
            pyro.sample("top", dist.Normal(turn(middle.view(-1, 2, 1))[:, 0, 0], 0.8))

    x = torch.randn(5, 2)
    within(log_likelihood(hierarchy, guide, x, num_samples=4000), hierarchy_exact(x))
