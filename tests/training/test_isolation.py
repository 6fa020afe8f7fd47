"""What a training leaves: the caller's random numbers and parameters, and modules to pickle."""

import copy
import io
import pickle
import random

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from pyro_vae.errors import InputError
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.programs import nothing_registered
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae
from tests.programs import PROBLEM, Constrained, LinearGuide, function_guide

X, model = PROBLEM.data(24), PROBLEM.model

QUICK = {"epochs": 2, "batch_size": 8, "progress": False}


def random_state():
    numpys = np.random.get_state()
    return random.getstate(), (*numpys[:1], numpys[1].tolist(), *numpys[2:]), torch.get_rng_state()


def same(before, after):
    return before[:2] == after[:2] and torch.equal(before[2], after[2])


def fails(record):
    raise KeyError


def drawing(record):
    random.random(), np.random.rand(), torch.rand(1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, None),
        ({"on_epoch": drawing}, None),
        ({"on_epoch": fails}, KeyError),
        ({"batch_parts": 100}, InputError),
        ({"guide": model}, InputError),  # seen in the rehearsal
    ],
)
def test_the_callers_random_numbers_and_parameters_are_as_they_were(options, error):
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    users = pyro.param("users", torch.tensor(5.0), constraint=dist.constraints.positive)
    store = pyro.get_param_store()
    stored, before = dict(store.named_parameters()), random_state()
    call = {"guide": LinearGuide()} | options
    before = random_state()
    if error is None:
        fit(model, train=(X,), **QUICK | call)
    else:
        with pytest.raises(error):
            fit(model, train=(X,), **QUICK | call)
    assert same(before, random_state())
    assert dict(store.named_parameters()) == {"users": stored["users"]}
    assert users.unconstrained() is stored["users"]
    assert pyro.param("users").item() == pytest.approx(5)
    assert store._constraints["users"] is dist.constraints.positive


def test_the_training_draws_from_its_seed_alone():
    """Two trainings after different random numbers are the same to the bit, NumPy's included."""

    class Noisy(LinearGuide):
        def forward(self, x):
            super().forward(x + 0.1 * np.random.randn() + 0.1 * random.random())

    runs = []
    for seed in range(2):
        torch.manual_seed(0)
        guide = Noisy()
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        runs.append((fit(model, guide, (X,), **QUICK), guide.a.weight))
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])


def test_what_a_function_registers_stays_with_its_trained_value():
    pyro.param("loc", torch.tensor([9.0, 9.0]).double())
    pyro.param("users", torch.tensor(1.0))
    fit(model, function_guide, (X,), learning_rate=0.01, **QUICK)
    store = pyro.get_param_store()
    assert {*store} == {"loc", "scale", "users"}
    loc, scale = pyro.param("loc"), pyro.param("scale")
    assert 0 < loc.abs().max() < 0.1  # from 0, not from the caller's 9
    assert 0 < (scale - 1).abs().max() < 0.1
    assert (store._params["scale"].exp() == scale).all()  # still constrained
    assert np.isfinite(log_likelihood(model, function_guide, X, num_samples=2).value).all()
    with pytest.raises(InputError):
        fit(model, model, (X,), **QUICK)
    assert torch.equal(pyro.param("loc"), loc)


class Registered:
    """Pyro's own style: methods that register the modules of their object."""

    def __init__(self):
        self.encoder = LinearGuide()

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        self.encoder(x)


def assert_free(*modules):
    """Pickled, copied and saved, with no mark of Pyro's left on a tensor."""
    for module in modules:
        assert not [w for w in module.parameters() if "unconstrained" in vars(w)]
        torch.save(module, io.BytesIO())
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            pairs = zip(module.state_dict().values(), other.state_dict().values(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)


def test_modules_can_be_pickled_afterwards(digits):
    vae = build_vae(2, architecture="dense")
    fit(*vae, (digits.train_images[:20],), (digits.test_images[:5],), **QUICK)
    assert_free(*vae)
    own, registered = Constrained(), Registered()
    start = copy.deepcopy(registered.encoder.state_dict())
    fit(model, own, (X,), **QUICK)
    fit(model, registered.guide, (X,), **QUICK)
    assert_free(own, registered.encoder)
    assert not torch.equal(start["a.weight"], registered.encoder.a.weight)
    with pytest.raises(KeyError):
        fit(model, own, (X,), on_epoch=fails, **QUICK)
    assert_free(own)
    assert list(pyro.get_param_store()) == []


def test_an_autoguide_trains_scores_and_pickles_beside_another_of_its_name():
    """The caller's store holds another AutoNormal's numbers, which Pyro would read by the name."""
    other, guide = AutoNormal(model), AutoNormal(model)
    other(X + 100)
    for value in pyro.get_param_store().values():
        value.data.fill_(77)
    fit(model, guide, (X,), batch_size=24, epochs=2, progress=False)
    trained = {name: value.clone() for name, value in guide.state_dict().items()}
    guide(X)
    assert all(torch.equal(trained[name], value) for name, value in guide.state_dict().items())
    assert max(value.abs().max() for value in trained.values()) < 70
    fit(model, guide, (X,), batch_size=24, epochs=1, progress=False)
    copy.deepcopy(guide)(X)


@pytest.mark.parametrize("wrapped", [lambda guide: guide, pyro.infer.config_enumerate])
def test_a_parameter_of_two_names_is_trained_once(wrapped):
    """Adam's first step moves each number by the learning rate."""
    guide = Constrained()
    fit(model, wrapped(guide), (X,), epochs=1, learning_rate=1e-3, batch_size=24, progress=False)
    for moved in guide.state_dict().values():
        assert moved.abs().tolist() == pytest.approx([1e-3] * 2, rel=1e-3)


def test_a_module_within_pyros_handlers_is_trained():
    guide = LinearGuide()
    start = guide.a.weight.clone()
    fit(model, pyro.poutine.scale(guide, 2.0), (X,), **QUICK)
    assert not torch.equal(start, guide.a.weight)


def test_a_tensor_of_two_names_leaves_pyros_store_under_the_new_one_only():
    guide, store = LinearGuide(), pyro.get_param_store()
    with nothing_registered():
        pyro.module("one", guide), pyro.module("two", guide)
    assert list(store) == []
    assert_free(guide)
    pyro.module("one", guide)
    with nothing_registered():
        pyro.module("two", guide)
    assert store.param_name(guide.a.weight) == "one$$$a.weight"
