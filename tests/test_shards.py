"""Blocks of log-likelihoods on disk: the same numbers, whoever made them and whenever."""

import os
import signal

import numpy as np
import pytest
import torch

from pyro_vae import accuracy
from pyro_vae.errors import InputError
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.problems import LinearGaussian
from pyro_vae.shards import sharded_log_likelihood
from tests.test_parallel import launch

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import torch
from pyro_vae import parallel
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.shards import sharded_log_likelihood
from pyro_vae.problems import LinearGaussian

parallel.join_group()
folder, problem, calls = Path(sys.argv[1]), LinearGaussian(), []

def guide(x):
    calls.append(len(x))
    if (folder / "die").exists() and len(calls) == 2 and len(x) > 1:
        while parallel.rank() == 1 and not [*folder.rglob("images_*.pt")]:
            time.sleep(0.01)  # until the other has written its first
        if parallel.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # until the other has come there
    problem.wide_guide(x)

# its first run is tried in two ways
log_likelihood(problem.model, guide, problem.data(1), num_samples=2)
calls.clear()
found = sharded_log_likelihood(folder / "blocks", problem.model, guide, problem.data(450),
                               num_samples=50, must_match={"guide": "wide"})
torch.save({"value": torch.from_numpy(found.value), "calls": calls},
           folder / f"{parallel.rank()}.pt")
"""


@pytest.fixture
def problem():
    return LinearGaussian()


def check_equal(one, other):
    for name, array in one._asdict().items():
        np.testing.assert_array_equal(array, getattr(other, name), err_msg=name)


def test_the_result_is_that_of_one_process_without_files(problem, tmp_path):
    x = problem.data(350)
    plain = log_likelihood(problem.model, problem.wide_guide, x, num_samples=50, seed=3)
    made, again = (
        sharded_log_likelihood(
            tmp_path, problem.model, problem.wide_guide, x, num_samples=50, seed=3
        )
        for _ in range(2)
    )
    check_equal(plain, made)
    check_equal(plain, again)
    assert len(list(tmp_path.glob("*.pt"))) == 4  # blocks of 100 images


def test_to_a_standard_error_that_is_asked_for(problem, tmp_path):
    x = problem.data(250)
    plain = accuracy.log_likelihood(problem.model, problem.wide_guide, x, se=0.1, seed=3)
    for _ in range(2):  # made, and read again
        found = sharded_log_likelihood(
            tmp_path, problem.model, problem.wide_guide, x, se=0.1, seed=3
        )
        check_equal(plain, found)
    assert len(list(tmp_path.glob("*.pt"))) == 3
    for change in ({"se": 0.2}, {"num_samples": 100}):
        options = {"se": 0.1, "num_samples": 10_000, "seed": 3} | change
        with pytest.raises(InputError, match="is of another run"):
            sharded_log_likelihood(tmp_path, problem.model, problem.wide_guide, x, **options)


def test_only_what_is_missing_is_made_again(problem, tmp_path):
    x, calls = problem.data(350), []

    def guide(x):
        calls.append(len(x))
        if len(calls) == 3 and len(x) == 100:
            raise RuntimeError("the machine went away")
        problem.wide_guide(x)

    log_likelihood(problem.model, guide, x[:1], num_samples=2)  # its first run is tried in two ways
    calls.clear()
    with pytest.raises(RuntimeError, match="went away"):
        sharded_log_likelihood(tmp_path, problem.model, guide, x)
    found = sharded_log_likelihood(tmp_path, problem.model, guide, x)
    assert calls == [100, 100, 100, 100, 50]  # the third again, and the fourth
    check_equal(found, log_likelihood(problem.model, problem.wide_guide, x))


def test_blocks_of_another_run_are_refused(problem, tmp_path):
    x = problem.data(50)
    sharded_log_likelihood(tmp_path, problem.model, problem.wide_guide, x)
    for change in ({"seed": 1}, {"num_samples": 50}, {"must_match": {"guide": "other"}}):
        with pytest.raises(InputError, match="is of another run"):
            sharded_log_likelihood(tmp_path, problem.model, problem.wide_guide, x, **change)
    with pytest.raises(InputError, match="is of another run"):
        sharded_log_likelihood(tmp_path, problem.model, problem.wide_guide, x + 1)
    path = next(tmp_path.glob("*.pt"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        sharded_log_likelihood(tmp_path, problem.model, problem.wide_guide, x)


@pytest.mark.scripts
def test_two_processes_and_one_that_dies(problem, tmp_path):
    (tmp_path / "die").touch()
    dead = launch(tmp_path, SCRIPT)
    assert dead.returncode != 0
    assert f"Signal {signal.SIGKILL.value} (SIGKILL)" in dead.stderr
    kept = {path.name for path in (tmp_path / "blocks").glob("*.pt")}
    assert 1 <= len(kept) < 4
    os.remove(tmp_path / "die")
    done = launch(tmp_path, SCRIPT)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert len(first["calls"]) + len(second["calls"]) == 5 - len(kept)
    plain = log_likelihood(problem.model, problem.wide_guide, problem.data(450), num_samples=50)
    for found in (first, second):
        np.testing.assert_allclose(found["value"], plain.value, rtol=1e-12)
