"""Kills, a full disk, two runs in one folder: nothing half-written is taken for whole."""

import errno
import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from experiments.record import Results
from pyro_vae.analysis.plots import save_figure
from pyro_vae.data.loading import load_digits
from pyro_vae.errors import InputError
from pyro_vae.storage.files import atomic_write, lock_file, lock_folder
from pyro_vae.storage.tensors import save_tensors
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae
from tests.commands import ROOT, check_wrong_option, main_of, run_main
from tests.storage import faults

resource = pytest.importorskip("resource", reason="Windows has neither fork nor limits of files")

WRITE = """
import sys
from pathlib import Path
from pyro_vae.storage.files import lock_file
with lock_file(Path(sys.argv[1])):
    print("writing", flush=True)
    sys.stdin.read()
"""

HOLD = """
import sys
from pathlib import Path
from pyro_vae.storage.files import lock_folder
lock_folder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_same(one, other):
    """Equal to the last bit, through dicts and lists."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())
    else:
        assert one == other


def assert_same_files(folder, other):
    """The same files, and the same in them; so that no part of a file is left either."""
    expected = {path.relative_to(folder) for path in folder.rglob("*.*")}
    assert {path.relative_to(other) for path in other.rglob("*.*")} == expected
    for path in expected:
        whole, again = folder / path, other / path
        if path.suffix == ".pt":  # which equal strings are one object differs, and so do the bytes
            whole, again = (torch.load(each, weights_only=True) for each in (whole, again))
            assert_same(whole, again)
        else:
            assert whole.read_bytes() == again.read_bytes(), path


@pytest.mark.slow
def test_fifty_kills_change_no_bit(tmp_path):
    done = start("-m", "tests.storage.faults", tmp_path / "killed", 50, 0)
    out, err = done.communicate()
    assert done.returncode == 0, err
    found = json.loads(out)
    assert found["kills"] == 50
    assert found["training"] >= 3, found
    assert found["log p"] >= 2, found
    # and files of each kind were left half-written
    assert {f"writing: {kind}" for kind in faults.KINDS} <= found.keys(), found
    never = start("-m", "tests.storage.faults", tmp_path / "whole", 0, 0)
    assert json.loads(never.communicate()[0]) == {"kills": 0, "runs": 1}
    runs = sorted(tmp_path.glob("killed*"))
    assert len(runs) == found["runs"]
    for run in runs:
        assert_same_files(tmp_path / "whole", run)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_script_killed_and_resumed_gives_the_same_files(tmp_path):
    """Question (a) as a user starts it: metrics, figures, checkpoint and training state."""
    command = ["-m", "tests.storage.faults", tmp_path / "killed"]
    script = ["question_a", "--dataset", "digits", "--epochs", 5, "--posterior-draws", 1]
    done = start(*command, 8, 0, *script)
    out, err = done.communicate()
    assert done.returncode == 0, err
    found = json.loads(out.splitlines()[-1])
    assert found.keys() & {"training", "writing: training state", "writing: checkpoint"}, found
    assert found["figures and metrics"] >= 1
    for run in sorted(tmp_path.glob("killed*")):
        # to a folder of the same name, which the metrics hold
        run = run.rename(tmp_path / f"done {run.name}")
    never = start(*command, 0, 0, *script)
    out, err = never.communicate()
    assert never.returncode == 0, err
    for run in sorted(tmp_path.glob("done*")):
        assert_same_files(tmp_path / "killed", run)


def test_what_a_killed_process_left_is_removed(tmp_path):
    """By the next run that takes the lock, which says that nobody writes there any more."""
    checkpoints, results = tmp_path / "checkpoints", tmp_path / "results"
    parts = [
        *(checkpoints / name for name in ("lr0.1.partial", "lr0.t.1.partial", "lr0.01.1.partial")),
        *(results / name for name in ("metrics.json.1.partial", "blocks/images.pt.1.partial")),
    ]
    for part in parts:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text("half")
    with atomic_write(checkpoints / "lr0") as partial:
        partial.write_text("whole")
    assert all(part.exists() for part in parts)
    with lock_file(checkpoints / "lr0", checkpoints / "lr0.t"):
        names = {path.name for path in checkpoints.iterdir()}
        assert names == {"lr0", "lr0.lock", "lr0.01.1.partial"}  # the last is another file's
    assert not (checkpoints / "lr0.lock").exists()
    lock_folder(results)
    assert [path.name for path in results.rglob("*") if path.is_file()] == [".lock"]


@contextmanager
def full_disk():
    """A limit on the size of files stands in for it: the writer meets the same OSError."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_training_state(path, size):
    model, guide = build_vae(2, architecture="dense")
    options = {"epochs": 1 if size == 0 else 2, "progress": False, "resume": True}
    fit(model, guide, (torch.full((4, 1, 28, 28), 0.5),), state_path=path, **options)


def write_figure(path, size):
    figure = Figure()
    axes = figure.subplots()
    if size:
        axes.imshow(np.random.default_rng(0).random((99, 99)))
    figure.set_size_inches((4, 4) if size else (0.1, 0.1))
    save_figure(figure, path, "mnist")


def write_metrics(path, size):
    args = Namespace(results=path.parents[2], given=[])
    results = Results(args, load_digits(), path.parent.name)
    results.add("x", "x" * size)
    results.finish()


WRITERS = {
    "tensors": lambda path, size: save_tensors(path, {"x": "x" * size}),
    "training state": write_training_state,
    "figure": write_figure,
    "metrics": write_metrics,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, writer):
    path = tmp_path / "digits" / "trial" / "metrics.json"
    WRITERS[writer](path, 0)
    before = path.read_bytes()
    with (
        full_disk(),
        pytest.raises(InputError, match=r"cannot write .*\.json: .*; free some space"),
    ):
        WRITERS[writer](path, 100_000)
    assert path.read_bytes() == before
    assert {each.name for each in path.parent.iterdir()} - {".lock"} == {path.name}


def test_a_full_disk_ends_a_script_with_one_line(tmp_path, capsys):
    """It comes in the middle of training, when the first state is written."""
    options = ["--dataset", "digits", "--epochs", 1, "--posterior-draws", 1, "--results", tmp_path]
    with full_disk(), pytest.raises(SystemExit) as stop:
        run_main(main_of("question_a"), *options)
    stderr = capsys.readouterr().err
    assert stop.value.code == 2
    lines = re.findall(r"^.*error.*$", stderr, re.MULTILINE)
    assert len(lines) == 1
    assert re.search("cannot write .*d4.training.pt: File too large; free some space", lines[0])
    assert "Traceback" not in stderr
    assert {each.name for each in tmp_path.rglob("*.*")} <= {".lock"}


def test_a_disk_that_becomes_read_only_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.pt"
    save_tensors(path, {"old": True})

    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(InputError, match=r"cannot write .*file.pt: Read-only file system; free"):
        save_tensors(path, {"new": True})
    assert [each.name for each in tmp_path.iterdir()] == ["file.pt"]
    assert torch.load(path, weights_only=True) == {"old": True}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that none can write to")
def test_a_folder_that_none_can_write_to_ends_a_script_with_one_line(capsys):
    folder = Path("/proc/nowhere")
    main, said = main_of("question_a"), f"error: cannot write {folder}"
    line = check_wrong_option(main, ["--dataset", "digits"], said, folder, capsys)
    assert re.fullmatch(r"error: cannot write /proc/nowhere.*: .*; free some.*\n", line)


def test_a_second_run_in_one_folder_is_refused_until_the_first_is_dead(tmp_path):
    first = start("-c", HOLD, tmp_path)
    assert first.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=r"another run is writing to .* name another folder$"):
        lock_folder(tmp_path)
    first.kill()
    first.communicate()
    lock_folder(tmp_path)
    lock_folder(tmp_path)  # a run may ask twice
    second = start("-c", HOLD, tmp_path)
    _, err = second.communicate("")
    assert "another run is writing to" in err
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]  # until this process ends


def test_a_lock_ends_with_its_process_and_leaves_no_file(tmp_path):
    run = start("-c", HOLD, tmp_path)
    assert run.stdout.readline() == "held\n"
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    _, err = run.communicate("")
    assert run.returncode == 0, err
    assert list(tmp_path.iterdir()) == []


def test_one_run_at_a_time_writes_a_checkpoint(tmp_path):
    path = tmp_path / "some.pt"
    first = start("-c", WRITE, path)
    assert first.stdout.readline() == "writing\n"
    with pytest.raises(InputError, match=r"another run is writing .*some.pt"), lock_file(path):
        pass
    first.kill()
    first.communicate()
    with lock_file(path):
        pass
    assert list(tmp_path.iterdir()) == []
