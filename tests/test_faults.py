"""Kills, a full disk, two runs in one folder: nothing half-written is taken for whole."""

import json
import os
import resource
import subprocess
import sys

import pytest
import torch

from pyro_vae.checkpoints import save_tensors
from pyro_vae.errors import InputError
from pyro_vae.files import hold_folder, only_writer, whole_file
from tests.commands import ROOT

WRITE = """
import sys
from pathlib import Path
from pyro_vae.files import only_writer
with only_writer(Path(sys.argv[1])):
    print("writing", flush=True)
    sys.stdin.read()
"""

HOLD = """
import sys
from pathlib import Path
from pyro_vae.files import hold_folder
hold_folder(Path(sys.argv[1]))
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


def test_fifty_kills_change_no_bit(tmp_path):
    done = start("-m", "tests.faults", tmp_path / "killed", 50, 0)
    out, err = done.communicate()
    assert done.returncode == 0, err
    found = json.loads(out)
    assert found["kills"] == 50
    assert found["training"] >= 5
    assert found["log p"] >= 3
    never = start("-m", "tests.faults", tmp_path / "whole", 0, 0)
    assert json.loads(never.communicate()[0]) == {"kills": 0, "runs": 1}
    runs = sorted(tmp_path.glob("killed*"))
    assert len(runs) == found["runs"]
    for run in runs:
        assert_same_files(tmp_path / "whole", run)


def test_what_a_killed_process_left_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f"file.{ended.pid}.partial").write_text("half")
    (tmp_path / f"file.{os.getppid()}.partial").write_text("another process at work")
    (tmp_path / f"other.{ended.pid}.partial").write_text("another file")
    with whole_file(tmp_path / "file") as partial:
        partial.write_text("whole")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"file", f"file.{os.getppid()}.partial", f"other.{ended.pid}.partial"}


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path):
    """A limit on the size of files stands in for the disk: the writer meets the same OSError."""
    path = tmp_path / "file.pt"
    save_tensors(path, {"old": True})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write .*file.pt: .*; free some space"):
            save_tensors(path, {"new": "x" * 100_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["file.pt"]


def test_a_second_run_in_one_folder_is_refused_until_the_first_is_dead(tmp_path):
    first = start("-c", HOLD, tmp_path)
    assert first.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=r"another run is writing to .*--results"):
        hold_folder(tmp_path)
    first.kill()
    first.communicate()
    hold_folder(tmp_path)
    hold_folder(tmp_path)  # a run may ask twice
    second = start("-c", HOLD, tmp_path)
    _, err = second.communicate("")
    assert "another run is writing to" in err
    assert list(tmp_path.iterdir()) == []


def test_one_run_at_a_time_writes_a_checkpoint(tmp_path):
    path = tmp_path / "some.pt"
    first = start("-c", WRITE, path)
    assert first.stdout.readline() == "writing\n"
    with pytest.raises(InputError, match=r"another run is writing .*some.pt"), only_writer(path):
        pass
    first.kill()
    first.communicate()
    with only_writer(path):
        pass
    assert list(tmp_path.iterdir()) == []
