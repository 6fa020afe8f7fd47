"""What the tests of the estimators share."""

import math

import torch

from pyro_vae.guides.amortised import Amortised


def off_by(sample, expected):
    """The distance of a mean from its expectation, in standard errors; `sample` is `(N,)`."""
    sample = torch.as_tensor(sample)
    se = sample.std() / math.sqrt(len(sample))
    return float((sample.mean() - expected) / (se + 1e-12))


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
