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
    link.symlink_to(path)
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


WITHOUT_POSIX = """
import select, signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
del select.poll, signal.SIGPIPE
import pyro_vae.data.datasets, pyro_vae.parallel
import pyro_vae.storage.files, pyro_vae.storage.fingerprint
"""


def test_files_and_data_import_without_posix():
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_POSIX]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
