"""What the tests of the estimators share."""

import math

import torch

from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.posterior import Posterior
from pyro_vae.guides.student import StudentMixture
from pyro_vae.likelihood.coordinates import coordinates_of


def off_by(sample, expected):
    """The distance of a mean from its expectation, in standard errors; `sample` is `(N,)`."""
    sample = torch.as_tensor(sample)
    se = sample.std() / math.sqrt(len(sample))
    return float((sample.mean() - expected) / (se + 1e-12))


def started(problem, x, widths):
    """The problem's posterior, and proposals around the posterior's means, of other widths."""
    loc, covariance = problem.posterior(x)
    tril = torch.linalg.cholesky(covariance)
    posterior = Posterior(problem.model, [x], coordinates_of(problem.model, [x], ["z"]), {})
    trils = torch.stack([width * tril.expand(len(x), *tril.shape) for width in widths], 1)
    locs = torch.stack([loc + (1 - width) * tril.sum(-1) for width in widths], 1)
    weights = torch.zeros(len(x), len(widths)).double()
    return posterior, StudentMixture(locs, trils, weights, x)


GUIDES = ["exact_guide", "wide_guide", "shifted_guide", "structured_guide", "prior_guide"]


class Numbers(Amortised):
    """A family without an encoder: the numbers are given."""

    def __init__(self, family, params):
        torch.nn.Module.__init__(self)
        self.family, self.params = family, params

    def encoder(self, x):
        return self.params[: len(x)]

    def distribution(self, params):
        return self.family.distribution(params)
