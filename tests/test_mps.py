"""On Apple's mps, where there is one; elsewhere on a device that imitates it (tests.apple)."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from experiments import cli
from pyro_vae.errors import InputError
from pyro_vae.networks.precision import resolve_precision, return_to, to_float64_device
from pyro_vae.seeds import random_state_kept, seeded
from pyro_vae.vae import Vae
from tests.commands import ROOT

on_mps = pytest.mark.skipif(not torch.backends.mps.is_available(), reason="there is no mps")


@pytest.fixture(scope="module")
def differences():
    """How far each call's result on the imitated device is from the CPU's, or its error."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.apple_calls"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_call_runs_without_float64(differences):
    """With the CPU's draws and kernels: no tolerance here is statistical."""
    errors = {name: found for name, found in differences.items() if isinstance(found, str)}
    assert not errors
    assert len(differences) > 40
    # float32 sums in another order, some of them through steps of a fit
    assert {name: found for name, found in differences.items() if found > 0.01} == {}


def test_what_is_fitted_goes_to_the_cpu_and_back(monkeypatch):
    """Where there is float64, nothing is copied."""
    x, found = torch.rand(3), torch.rand(3, dtype=torch.float64)
    assert to_float64_device(x) is x
    assert return_to(x, found) is found
    monkeypatch.setattr("pyro_vae.networks.precision.WITHOUT_FLOAT64", ("cpu",))
    assert return_to(x, found).dtype == torch.float32


def test_the_device_is_one_line_where_it_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^--device 'mps' is not on this machine: use --device c"):
        cli.check_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert cli.check_device("mps").type == "mps"


def test_bfloat16_is_not_taken_for_faster():
    assert resolve_precision("auto", "mps") == "float32"


def test_random_numbers_of_the_device_are_seeded_and_restored(monkeypatch):
    """By torch's functions for it: the state there is a number that seeds set and draws raise."""
    state, seeds = [torch.tensor(7)], []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda *_: state[0])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda new, *_: state.__setitem__(0, new))
    monkeypatch.setattr(torch.mps, "manual_seed", lambda seed: state.__setitem__(0, seed))

    class Like:
        device, is_mps, is_cuda, is_cpu = torch.device("mps"), True, False, False

    with seeded(5, Like()):
        assert state[0] == 5
        seeds.append(torch.rand(1))
    assert state[0] == 7
    with seeded(5, torch.zeros(1)):
        assert torch.equal(torch.rand(1), seeds[0])
    assert state[0] == 7
    with random_state_kept():
        state[0] = torch.tensor(8)
    assert state[0] == 7


@on_mps
@pytest.mark.parametrize("refine", [False, True])
def test_log_p_is_that_of_the_processor(trained_appendix, digits, refine):
    """Within 5 standard errors of both, for 20 images: fails for 1 set of images in 80,000."""
    x, both = digits.test_images[:20], []
    for device in ("cpu", "mps"):
        vae = Vae(*trained_appendix).to(device)
        vae = vae.refined() if refine else vae
        both.append(vae.log_likelihood(x, num_samples=2000))
        vae.to("cpu")
    trusted = both[0].trusted() & both[1].trusted()
    apart = abs(both[0].value - both[1].value) / np.hypot(both[0].se, both[1].se)
    assert trusted.sum() > (18 if refine else 2)
    assert (apart[trusted] < 5).all()
