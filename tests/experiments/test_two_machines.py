"""Training and scoring by two machines, imitated by two networks with folders of their own.

Each machine is a network namespace of Linux; the two are joined by a cable, which can be cut. They
have no file in common but the data set. Where namespaces cannot be made, the tests are skipped.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.commands import ROOT, run_script

pytestmark = pytest.mark.scripts

OPTIONS = ["--dataset", "digits", "--batch-parts", "2", "--images", "290"]
OPTIONS += ["--latent-dim", "3", "--num-samples", "20"]
ADDRESSES = ("10.213.0.1", "10.213.0.2")
# a watch that does not wait a minute
SCRIPT = """
import sys
from experiments import distributed
from experiments.cli import run
from pyro_vae import watch

watch.PERIOD, watch.PATIENCE = 0.5, 5.0
run(distributed.main)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def machines() -> Iterator[tuple[str, str]]:
    """Two network namespaces, `a` and `b` of this process, joined by a pair of virtual ends."""
    names = tuple(f"vae{os.getpid()}{end}" for end in "ab")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", names[0], "netns", names[0], "type", "veth", "peer", "name", names[1],
           "netns", names[1])  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        pytest.skip(f"network namespaces cannot be made here: {error}")
    try:
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            ip("-n", name, "link", "set", name, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            running = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            for pid in running.stdout.split():
                os.kill(int(pid), signal.SIGKILL)
            ip("netns", "del", name)


def start(machines, folder, *options, text=SCRIPT) -> list[subprocess.Popen]:
    """Start the job on both machines, a process on each; each has a folder of its own."""
    script = folder / "script.py"
    script.write_text(text)
    started = []
    for machine, address in zip(machines, ADDRESSES, strict=True):
        command = ["ip", "netns", "exec", machine, sys.executable, "-m", "torch.distributed.run"]
        command += ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"]
        # the two share a name, so that neither can know by it which of them is the host
        command += [f"--rdzv-conf=is_host={int(address == ADDRESSES[0])}"]
        command += [f"--rdzv-endpoint={ADDRESSES[0]}:29511", f"--local-addr={address}", str(script)]
        command += [*OPTIONS, "--results", str(folder / address), *options]
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": machine,
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=ROOT, text=True, env=environment, **pipes))
    return started


def ended(started: list[subprocess.Popen]) -> list[subprocess.CompletedProcess]:
    found = []
    for process in started:
        stdout, stderr = process.communicate(timeout=300)
        found.append(subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr))
    return found


def written(folder) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def results_of(folder) -> tuple[dict, dict]:
    """The metrics, and the decoder's weights."""
    metrics = json.loads((folder / "digits/distributed_d3/metrics.json").read_text())
    content = torch.load(folder / "digits/checkpoints/d3.pt", weights_only=True)
    return metrics, content["decoder"]


def first_rank(folder):
    """Which of the two machines' folders is that of the first process: the rendezvous decides."""
    return next(folder / address for address in ADDRESSES if written(folder / address))


def test_two_machines_do_what_one_process_does(machines, tmp_path):
    done = ended(start(machines, tmp_path, "--epochs", "1"))
    assert [each.returncode for each in done] == [0, 0], "\n".join(each.stderr for each in done)
    spoken = "".join(each.stdout for each in done)
    assert spoken.count("log p(x) = ") == 1  # one process speaks
    alone = run_script("distributed", *OPTIONS, "--epochs", "1", "--results", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    (found, weights), (expected, same) = map(results_of, (first_rank(tmp_path), tmp_path / "one"))
    assert (found["processes"], expected["processes"]) == (2, 1)
    values, others = (metrics["images"]["log_p"] for metrics in (found, expected))
    assert len(values) == 290
    np.testing.assert_allclose(values, others, rtol=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, same[name], atol=2e-5, rtol=1e-3)
    # the other machine has written nothing, not even a folder
    assert sum((tmp_path / address).exists() for address in ADDRESSES) == 1


def cut(machines) -> None:
    """Cut the cable: neither machine is told anything."""
    ip("-n", machines[1], "link", "set", machines[1], "down")


def until(exists, started) -> None:
    end = time.monotonic() + 120
    while not exists():
        assert time.monotonic() < end
        assert all(process.poll() is None for process in started)
        time.sleep(0.01)


def check_ended_in_a_line(started, folder) -> None:
    """The machine of the first process ends; what is left of the other one gives up by itself."""
    (first,) = [p for p, address in zip(started, ADDRESSES, strict=True) if address == folder.name]
    _, stderr = first.communicate(timeout=60)
    assert first.returncode == 1
    (line,) = [line for line in stderr.splitlines() if "error: process" in line]
    assert line.endswith(
        "does not answer: its machine or network is gone, or it has ended; what the first "
        "process has written is kept, and resume goes on from there"
    )
    assert "Traceback" not in stderr.partition("error: process")[0]
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_machine_that_is_lost_ends_the_scoring_and_another_number_goes_on(machines, tmp_path):
    options = ["--epochs", "1", "--num-samples", "3000", "--images", "100"]
    started = start(machines, tmp_path, *options)
    until(lambda: [*tmp_path.rglob("images_*.pt")], started)
    cut(machines)
    folder = first_rank(tmp_path)
    check_ended_in_a_line(started, folder)
    assert 1 <= len([*folder.rglob("images_*.pt")]) < 4  # blocks of 33 images
    again = run_script("distributed", *OPTIONS, *options, "--results", folder, "--resume")
    assert again.returncode == 0, again.stderr
    whole = run_script("distributed", *OPTIONS, *options, "--results", tmp_path / "one")
    assert whole.returncode == 0, whole.stderr
    values, others = (
        results_of(place)[0]["images"]["log_p"] for place in (folder, tmp_path / "one")
    )
    np.testing.assert_allclose(values, others, rtol=1e-4)


@pytest.mark.slow
def test_a_machine_that_has_no_data_ends_all(machines, tmp_path):
    """It ends before the processes have met, and the others do not wait for it all day."""
    refuse = """
import os
from datetime import timedelta
from pyro_vae import parallel

if os.environ["GLOO_SOCKET_IFNAME"].endswith("b"):
    sys.exit("no data")
parallel.MEETING = timedelta(seconds=10)
run(distributed.main)
"""
    text = SCRIPT.replace("run(distributed.main)", refuse)
    done = ended(start(machines, tmp_path, "--epochs", "1", text=text))
    assert [each.returncode for each in done] == [1, 1]
    assert "error: not all processes have come" in done[0].stderr
    assert not [*tmp_path.rglob("*.pt")]


@pytest.mark.slow
def test_a_machine_that_is_lost_ends_the_training_and_another_number_goes_on(machines, tmp_path):
    started = start(machines, tmp_path, "--epochs", "6")
    until(lambda: [*tmp_path.rglob("d3.training.pt")], started)
    cut(machines)
    folder = first_rank(tmp_path)
    check_ended_in_a_line(started, folder)
    options = [*OPTIONS, "--epochs", "6"]
    again = run_script("distributed", *options, "--results", folder, "--resume")
    assert again.returncode == 0, again.stderr
    assert "epoch 1:" not in again.stderr + again.stdout
    whole = run_script("distributed", *options, "--results", tmp_path / "one")
    assert whole.returncode == 0, whole.stderr
    (_, weights), (_, same) = map(results_of, (folder, tmp_path / "one"))
    for name, weight in weights.items():
        torch.testing.assert_close(weight, same[name], atol=1e-4, rtol=1e-3)
