"""Training and scoring by two processes, as a user starts them."""

import json
import os
import subprocess
import sys

import numpy as np
import torch

from tests.commands import ROOT, run_script

OPTIONS = ["--dataset", "digits", "--epochs", "1", "--shards", "2", "--images", "150"]
OPTIONS += ["--latent-dim", "3", "--num-samples", "20"]


def by_two(results, *options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "-m", "experiments.distributed"]
    command += [*OPTIONS, "--results", str(results), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


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
    assert found["training"]["shards"] == 2
    values, others = (metrics["images"]["log_p"] for metrics in (found, expected))
    assert len(values) == 150
    np.testing.assert_allclose(values, others, rtol=1e-4)
    weights, same = (
        torch.load(tmp_path / name / "digits/checkpoints/d3.pt", weights_only=True)["decoder"]
        for name in ("two", "one")
    )
    for name, weight in weights.items():
        torch.testing.assert_close(weight, same[name], atol=2e-5, rtol=1e-3)
    assert not list(tmp_path.rglob("blocks"))


def test_a_wrong_option_ends_both(tmp_path):
    done = by_two(tmp_path, "--device", "tpu")
    assert done.returncode != 0
    assert "--device 'tpu' is" in done.stderr
    assert not list(tmp_path.rglob("*.*"))
