import errno
import os
import subprocess
import sys

import pytest

from pyro_vae.errors import InputError
from pyro_vae.storage import files
from pyro_vae.storage.files import atomic_write, lock_file, lock_folder
from tests.commands import ROOT


def test_the_file_appears_whole(tmp_path):
    with atomic_write(tmp_path / "new" / "file") as partial:
        partial.write_text("one")
        assert not (tmp_path / "new" / "file").exists()
    assert (tmp_path / "new" / "file").read_text() == "one"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write_half():
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_error_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"cannot write .*; free some space"),
        atomic_write(tmp_path / "file" / "below"),
    ):
        pass


def test_a_link_is_kept_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "kept").mkdir()
    path = tmp_path / "kept" / "file"
    path.write_text("old")
    link = tmp_path / "link"
    try:
        link.symlink_to(path)
    except OSError as error:
        pytest.skip(f"no links here: {error.strerror}")  # Windows, without the right to make them
    with atomic_write(link) as partial:
        partial.write_text("new")
    assert link.is_symlink()
    assert path.read_text() == "new"


def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.FileLock, "acquire", refuse)
    message = r"^cannot write .*\.lock: No locks available; free some space, or name a folder that"
    with pytest.raises(InputError, match=message):
        lock_folder(tmp_path)
    with pytest.raises(InputError, match=message), lock_file(tmp_path / "some.pt"):
        pass


def refusing(times, error=PermissionError):
    """An `os.replace` that refuses so many times, as on Windows while a scanner reads the file."""
    replace, left = os.replace, [times]

    def refuse(source, target):
        if left[0]:
            left[0] -= 1
            raise error(errno.EACCES, "Access is denied", str(target))
        replace(source, target)

    return refuse


def test_a_file_that_is_open_on_windows_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    monkeypatch.setattr(os, "replace", refusing(3))
    with atomic_write(tmp_path / "file") as partial:
        partial.write_text("new")
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize(("windows", "tries"), [(True, 7), (False, 1)])
def test_a_file_that_stays_open_is_one_line(windows, tries, tmp_path, monkeypatch):
    """On Windows after a second and a half; elsewhere such an error is no passing one."""
    waits, refuse = [], refusing(100)
    monkeypatch.setattr(files, "WINDOWS", windows)
    monkeypatch.setattr(files.time, "sleep", waits.append)
    monkeypatch.setattr(os, "replace", refuse)
    remedy = "close the program that has it open" if windows else "free some space"
    with (
        pytest.raises(InputError, match=f"cannot write .*file: Access is denied; {remedy}"),
        atomic_write(tmp_path / "file") as partial,
    ):
        partial.write_text("new")
    assert len(waits) == tries - 1
    assert sum(waits) < 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["nul", "CON.pt", "com1.json", "aux .pt", "a:b.pt", "what?.pt", "d4.", "d4 ", "a|b"]
)
def test_a_name_that_windows_has_not_is_one_line(name, tmp_path, monkeypatch):
    """There NUL swallows what is written, and "a:b.pt" hides it behind a file a."""
    monkeypatch.setattr(files, "WINDOWS", True)
    with (
        pytest.raises(InputError, match="path must be a name that Windows has for a file, not "),
        atomic_write(tmp_path / name),
    ):
        pass
    with atomic_write(tmp_path / "null.d4 con.pt") as partial:
        partial.write_text("")


def test_a_path_too_long_for_windows_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(os, "replace", refusing(100, FileNotFoundError))
    message = "Windows takes 259 characters, and this needs [0-9]{3}; shorten the path"
    with (
        pytest.raises(InputError, match=message),
        atomic_write(tmp_path / ("a" * 120) / ("b" * 120)) as partial,
    ):
        partial.write_text("")


def test_the_files_of_record_have_names_that_windows_has():
    """And no two of a folder differ in case alone."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = done.stdout.splitlines()
    assert len(paths) > 100
    for path in paths:
        for name in path.split("/"):
            files._check_name(name)
    assert len({path.lower() for path in paths}) == len(paths)


@pytest.mark.slow
def test_a_script_runs_without_posix(tmp_path):
    """Every module is imported, and question (a) runs, with Windows' encoding and its console."""
    command = [sys.executable, "-X", "warn_default_encoding", "-m", "tests.without_posix"]
    command += ["experiments.question_a", "--dataset", "digits", "--results", str(tmp_path)]
    command += ["--epochs", "1", "--latent-dim", "2", "--posterior-draws", "1"]
    windows = {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONIOENCODING": "cp437"}
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | windows, capture_output=True, encoding="cp437"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "digits" / "question_a_d2" / "metrics.json").is_file()
    warned = [line for line in done.stderr.splitlines() if "EncodingWarning" in line]
    assert not [line for line in warned if str(ROOT) in line]


def test_the_package_imports_without_posix():
    command = [sys.executable, "-W", "ignore", "-m", "tests.without_posix"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
