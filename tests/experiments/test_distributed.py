"""Training and scoring by two processes, as a user starts them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tests.commands import ROOT, run_script

pytestmark = pytest.mark.scripts

OPTIONS = ["--dataset", "digits", "--epochs", "1", "--batch-parts", "2", "--images", "150"]
OPTIONS += ["--latent-dim", "3", "--num-samples", "20"]


def start_two(results, *options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "-m", "experiments.distributed"]
    command += [*OPTIONS, "--results", str(results), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, env=environment, **pipes)


def by_two(results, *options):
    process = start_two(results, *options)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def decoder(results):
    path = results / "digits/checkpoints/d3.pt"
    return torch.load(path, weights_only=True)["decoder"]


def test_two_processes_do_what_one_does(tmp_path):
    done = by_two(tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("log p(x) = ") == 1  # one process speaks
    alone = run_script("distributed", *OPTIONS, "--results", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    found, expected = (
        json.loads((tmp_path / name / "digits/distributed_d3/metrics.json").read_text())
        for name in ("two", "one")
    )
    assert (found["processes"], expected["processes"]) == (2, 1)
    assert found["training"]["batch_parts"] == 2
    values, others = (metrics["images"]["log_p"] for metrics in (found, expected))
    assert len(values) == 150
    np.testing.assert_allclose(values, others, rtol=1e-4)
    weights, same = decoder(tmp_path / "two"), decoder(tmp_path / "one")
    for name, weight in weights.items():
        torch.testing.assert_close(weight, same[name], atol=2e-5, rtol=1e-3)
    assert not list(tmp_path.rglob("blocks"))


def test_a_wrong_option_ends_both(tmp_path):
    done = by_two(tmp_path, "--device", "tpu")
    assert done.returncode != 0
    assert "--device 'tpu' is" in done.stderr
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.slow
def test_a_process_that_dies_in_training_ends_the_run_and_the_next_goes_on(tmp_path):
    process = start_two(tmp_path / "killed", "--epochs", "6")
    state = tmp_path / "killed/digits/checkpoints/d3.training.pt"
    while process.poll() is None and not state.exists():
        time.sleep(0.01)  # until the first epoch is behind them
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    _, stderr = process.communicate()
    assert process.returncode != 0
    assert "SIGKILL" in stderr
    assert not state.with_name("d3.pt").exists()
    resumed = by_two(tmp_path / "killed", "--epochs", "6", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 6" in resumed.stdout
    assert "epoch 1:" not in resumed.stdout
    undisturbed = by_two(tmp_path / "whole", "--epochs", "6")
    assert undisturbed.returncode == 0, undisturbed.stderr
    weights = decoder(tmp_path / "whole")
    assert all(torch.equal(w, weights[name]) for name, w in decoder(tmp_path / "killed").items())
