"""Two processes against one: the same draws, the same weights."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from torch import distributed

from pyro_vae import parallel
from pyro_vae.errors import InputError, LostProcess
from pyro_vae.seeds import derive_seed, seeded
from tests.commands import ROOT
from tests.training.test_training import train, weights

SCRIPT = """
import sys, torch
from pyro_vae import parallel
from pyro_vae.data.loading import load_digits
from tests.training.test_training import train, weights

parallel.join_group()
run = train(load_digits(), batch_parts=2, batch_size=64, images=200)
torch.save({"weights": weights(*run[:2]), "elbo": [r["train_elbo"] for r in run[2]],
            "size": parallel.world_size(), "own": list(parallel.parts_of_this_rank(5))},
           f"{sys.argv[1]}/{parallel.rank()}.pt")
"""


SHARING = """
import os, sys, time, torch
from pyro_vae import parallel
from pyro_vae.errors import InputError

parallel.join_group()
made = []

def make(number):
    made[-1].append(number)
    time.sleep(0.2 if number == 0 else 0.005)  # whoever has it makes fewer others
    return str(number * number).encode()

found = []
for total in (20, 3, 0):
    made.append([])
    found.append(list(parallel.shared_work(make, total)))
told = parallel.by_first(lambda: [os.getpid()])
refused = []

def refuse():
    raise InputError(f"refused by {parallel.rank()}")

def differ():
    parallel.check_alike(seed=str(parallel.rank()))

for wrong in (lambda: parallel.by_first(refuse), differ):
    try:
        wrong()
    except InputError as error:
        refused.append(str(error))
torch.save({"found": found, "made": made, "told": told, "refused": refused},
           f"{sys.argv[1]}/{parallel.rank()}.pt")
parallel.leave_group()
"""


def launch(folder, script, *options, processes=2):
    path = folder / "script.py"
    path.write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", *options, path, folder]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_two_processes_train_what_one_does(digits, tmp_path):
    done = launch(tmp_path, SCRIPT)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert (first["size"], first["own"], second["own"]) == (2, [0, 2, 4], [1, 3])
    alone = train(digits, batch_parts=2, batch_size=64, images=200)
    for a, b, c in zip(first["weights"], second["weights"], weights(*alone[:2]), strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c, atol=2e-5, rtol=1e-3)
    assert first["elbo"] == pytest.approx([record["train_elbo"] for record in alone[2]], rel=1e-4)
    # another number of parts draws other noise: the agreement above says something
    other = train(digits, batch_parts=1, batch_size=64, images=200)
    assert not torch.allclose(first["weights"][0], weights(*other[:2])[0], atol=2e-5, rtol=1e-3)


def test_numbers_drawn_after_a_seeded_block_are_what_they_would_be_without_it():
    torch.manual_seed(1)
    without = torch.rand(3)
    torch.manual_seed(1)
    with seeded(2, without):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), without)
    torch.manual_seed(2)
    assert torch.equal(inside, torch.rand(3))


def test_one_process_is_a_group_of_its_own():
    tensor = torch.ones(3)
    parallel.all_reduce_sum([tensor])
    assert tensor.tolist() == [1, 1, 1]
    assert (parallel.rank(), parallel.world_size(), list(parallel.parts_of_this_rank(3))) == (
        0,
        1,
        [0, 1, 2],
    )


def test_a_group_is_left(tmp_path):
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    parallel.leave_group()
    assert not distributed.is_initialized()
    parallel.leave_group()  # of none: nothing


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "some")
    monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count()))
    with pytest.raises(InputError, match='use device="cuda" and as many processes, or device="c'):
        parallel.join_group("cuda")
    with pytest.raises(InputError, match='device mps: several processes take device="cpu", or'):
        parallel.join_group("mps")


def test_seeds_differ_by_every_number():
    seeds = {derive_seed(a, b) for a in range(20) for b in range(20)}
    assert len(seeds) == 400


def test_too_many_shards_are_refused(digits):
    with pytest.raises(InputError, match="at most the images of the smallest batch, 8, not 9"):
        train(digits, batch_parts=9, batch_size=64, images=200)


def test_work_is_shared_and_the_first_process_hears_of_all_of_it(tmp_path):
    done = launch(tmp_path, SHARING)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for found, total in zip(first["found"], (20, 3, 0), strict=True):
        assert sorted(found) == [(n, str(n**2).encode()) for n in range(total)]
    assert second["found"] == [[], [], []]
    shared = [sorted(a + b) for a, b in zip(first["made"], second["made"], strict=True)]
    assert shared == [[*range(20)], [*range(3)], []]
    lazy, busy = sorted((first["made"][0], second["made"][0]), key=lambda made: 0 not in made)
    assert len(busy) > len(lazy)
    assert first["told"] == second["told"]
    assert first["refused"] == second["refused"]
    assert first["refused"][0] == "refused by 0"
    assert "seed must be the same in every process" in first["refused"][1]


def test_work_of_one_process_is_made_in_order_as_it_is_asked_for():
    made = []
    work = parallel.shared_work(lambda number: made.append(number) or b"%d" % number, 3)
    assert next(work) == (0, b"0")
    assert made == [0]
    assert list(work) == [(1, b"1"), (2, b"2")]
    assert parallel.by_first(lambda: 5) == 5


def test_a_connection_that_breaks_is_told_in_one_line():
    line = r"^another process does not answer: its machine .* \(Connection closed by peer\)$"
    with pytest.raises(LostProcess, match=line), parallel._unless_lost():
        raise RuntimeError("Connection closed by peer\nin 20 frames")


RESTARTED = """
import os, sys
from pyro_vae import parallel

parallel.join_group()
for number, file in parallel.shared_work(lambda number: b"made", 4):
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and number > 1:
        sys.exit(1)  # and torchrun starts both again
if parallel.rank() == 0:
    open(f"{sys.argv[1]}/ended", "w").close()
parallel.leave_group()
"""


@pytest.mark.slow
def test_processes_that_torchrun_starts_again_share_the_work_anew(tmp_path):
    done = launch(tmp_path, RESTARTED, "--max-restarts=1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ended").exists()


def test_a_process_that_never_comes_is_not_waited_for_all_day(monkeypatch):
    for name, value in {"MASTER_ADDR": "localhost", "MASTER_PORT": "29731", "RANK": "0",
                        "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "some")
    monkeypatch.setattr(parallel, "MEETING", timedelta(seconds=1))
    with pytest.raises(LostProcess, match="not all processes have come"):
        parallel.join_group()
