"""Small programs with exact answers, for the tests of training."""

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.distributions import constraints

from pyro_vae.problems import LinearGaussian

PROBLEM = LinearGaussian()
X = PROBLEM.data(24)


def z_of(loc, scale):
    return dist.Normal(loc, scale).to_event(1)


def model(x):
    PROBLEM.model(x)


class Linear(nn.Module):
    """A guide N(A x, diag(scale^2)): the exact posterior mean, and one scale for all images."""

    def __init__(self, sub=None):
        super().__init__()
        self.a = nn.Linear(PROBLEM.data_dim, PROBLEM.latent_dim, bias=False).double()
        self.log_scale = nn.Parameter(torch.zeros(PROBLEM.latent_dim, dtype=torch.float64))
        self.sub = sub  # the number of images that the batch stands for

    def forward(self, x):
        with pyro.plate("data", self.sub or len(x), subsample=x if self.sub else None):
            pyro.sample("z", z_of(self.a(x), self.log_scale.exp()))


class Constrained(PyroModule):
    """A guide whose parameters Pyro's PyroModule registers itself, one of them positive."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        scale = torch.ones(2, dtype=torch.float64)
        self.scale = PyroParam(scale, constraint=constraints.positive)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", z_of(self.loc, self.scale))


def function_guide(x):
    """A guide that registers numbers of its own."""
    loc = pyro.param("loc", torch.zeros(2, dtype=torch.float64))
    scale = pyro.param("scale", torch.ones(2).double(), constraint=constraints.positive)
    with pyro.plate("data", len(x)):
        pyro.sample("z", z_of(loc, scale))
