"""What is known of a user's program from outside: its modules, and what it leaves behind."""

import copy
import math
import pickle
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from torch import nn

from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.models import Model
from pyro_vae.programs import evaluating, forget, labels_of, modules_of, nothing_registered
from tests.autoencoders import build_vae

NET = nn.Linear(1, 1)
UNUSED = nn.Linear(1, 1)
ONES = np.ones(2)


def names_a_global(x):
    return NET(x)


def names_it_inside(x):
    return [NET(row) for row in x]  # a code object of its own


def names_a_function(x):
    return names_a_global(x)


@torch.no_grad()
def decorated(x):
    return NET(x)


def names_a_decorated_function(x):
    return decorated(x)


def in_its_closure():
    net = NET
    return lambda x: net(x)


class Plain:
    """No module itself, but it holds one."""

    def __init__(self):
        self.parts = {"decoder": [NET]}

    def model(self, x):
        return self.parts["decoder"][0](x)

    def __call__(self, x):
        return self.model(x)


PROGRAMS = {
    "module": NET,
    "method of a module": NET.forward,
    "global": names_a_global,
    "in a comprehension": names_it_inside,
    "function of the same file": names_a_function,
    "decorated function": names_a_decorated_function,
    "closure": in_its_closure(),
    "global of a lambda": lambda x: NET(x),
    "default": lambda x, net=NET: net(x),
    "partial": partial(lambda x, net: net(x), net=NET),
    "partial of a method": partial(Plain().model),
    "plain object": Plain(),
    "method of a plain object": Plain().model,
    "scaled": poutine.scale(names_a_global, scale=0.5),
    "in a plate": pyro.plate("plate", 3)(names_a_global),
    "list": [None, {"a": names_a_global}],
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_modules_of_a_program_are_found(program):
    assert modules_of(program) == [NET]


def test_the_parts_of_a_module_are_found_once():
    inner = nn.Linear(1, 1)
    outer = nn.Sequential(inner, nn.ReLU(), inner)
    assert {*modules_of(outer, outer.forward)} == {outer, inner, outer[1]}
    assert len(modules_of(outer)) == 3


def test_modules_of_other_files_are_not_looked_for():
    """A program names Pyro and torch: their files name hundreds of objects."""

    def program(x):
        with pyro.plate("data", len(x)):
            return pyro.sample("z", dist.Normal(nn.functional.relu(x), 1))

    assert modules_of(program) == []
    assert UNUSED not in modules_of(*PROGRAMS.values())


def test_modes_come_back_also_after_an_error():
    """Each part has the mode it had, where these differ."""
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2), nn.Sequential(nn.Dropout()))
    net[1].eval()
    net[2].training = False  # and the dropout inside it still trains
    before = [part.training for part in net.modules()]
    assert len({*before}) == 2

    def broken():
        with evaluating(net.forward):
            assert not any(part.training for part in net.modules())
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert [part.training for part in net.modules()] == before


def test_nothing_stays_in_pyros_store():
    """What was there before stays, with its value, and so does what has two names."""
    pyro.param("mine", torch.tensor(3.0))
    twice = nn.Parameter(torch.ones(2))

    def broken():
        with nothing_registered():
            pyro.module("net", NET)
            pyro.param("positive", torch.tensor(2.0), constraint=dist.constraints.positive)
            pyro.param("one", twice)
            pyro.param("other", twice)
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert [*pyro.get_param_store().keys()] == ["mine"]
    assert pyro.param("mine") == 3
    forget("mine")
    assert not pyro.get_param_store().keys()


class InPyrosStyle(nn.Module):
    """One module with model and guide, and `pyro.module` inside, as in Pyro's own example."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
        self.encoder = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("latent", dist.Normal(x.new_zeros(x.shape[0], 2), 1).to_event(1))
            pyro.sample("obs", dist.Normal(self.decoder(z), 1).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("latent", dist.Normal(self.encoder(x), 1).to_event(1))


def test_a_scored_program_can_be_pickled_and_has_learnt_nothing():
    vae, x = InPyrosStyle(), torch.randn(6, 3)
    state = copy.deepcopy(vae.state_dict())
    result = log_likelihood(vae.model, vae.guide, x, num_samples=30)
    assert not pyro.get_param_store().keys()
    assert vae.training
    assert vae.decoder[1].training
    again = pickle.loads(pickle.dumps(vae))
    for name, value in again.state_dict().items():
        assert torch.equal(value, state[name])
    vae.eval()
    same = log_likelihood(vae.model, vae.guide, x, num_samples=30)
    np.testing.assert_array_equal(result.value, same.value)
    assert not vae.training


class TakesY(nn.Module):
    def forward(self, x, y):
        pass


class Decoder(nn.Module):
    latent_dim = 2

    def forward(self, z):
        return z


@pytest.mark.parametrize(
    ("program", "labels"),
    [
        (lambda x: None, (0, 0, [], False)),
        (lambda x, y: None, (1, 1, ["y"], True)),
        (lambda x, y=None: None, (0, 1, ["y"], True)),
        (lambda x, y, a=None: None, (1, 2, ["y", "a"], True)),
        (lambda x, beta=1.0: None, (0, 1, [], False)),
        (lambda x, size=ONES: None, (0, 1, [], False)),
        (lambda x, *labels: None, (0, math.inf, [], True)),
        (lambda x, *, beta=1.0: None, (0, 0, [], False)),
        (TakesY(), (1, 1, ["y"], True)),
        (TakesY().forward, (1, 1, ["y"], True)),
        (partial(lambda x, y, scale: None, scale=2), (1, 1, ["y"], True)),
        (poutine.scale(lambda x: None, 2.0), (0, 0, [], False)),
        (AutoNormal(lambda x: None), (0, math.inf, [], True)),
        (build_vae(2, architecture="dense")[0], (0, 0, [], False)),
        (build_vae(2, architecture="dense", num_classes=3)[0], (1, 1, ["y"], True)),
        (build_vae(2, architecture="dense", num_classes=3)[1], (0, math.inf, [], True)),
        (Model(Decoder()), (0, 0, [], False)),
        (None, (0, math.inf, [], True)),
    ],
)
def test_the_labels_that_a_program_takes_are_read_from_its_signature(program, labels):
    assert labels_of(program) == labels
