"""Files that are either whole or absent, whatever kills the program that writes them."""

import atexit
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pyro_vae.errors import InputError

WINDOWS = sys.platform == "win32"
DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in "123456789"),
}


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` if the block succeeds.

    A reader of `path` sees the old file or the new one, never a part. The data reaches the disk
    before the name does, so that this holds for a power cut too. Temporary files bear the number
    of their process: the programs that write to one folder must run on one machine. Those of a
    killed process are removed when `lock_folder` or `lock_file` next takes their place.

        with atomic_write("metrics.json") as partial:
            partial.write_text(...)
    """
    path = Path(path)
    if not path.name or "\0" in str(path):
        raise InputError(f"path must name a file, not {str(path)!r}")
    if WINDOWS:
        _check_name(path.name)
    if os.path.islink(path):  # what it points to is replaced, and not the link
        path = Path(os.path.realpath(path))
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        replace(partial, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def replace(source: Path, path: Path) -> None:
    """Rename the file `source` to `path`, in the place of one that is there.

    Windows refuses while another program has it open. Virus scanners and indexers do so for some
    milliseconds after each write, so it is tried for a second and a half.
    """
    for pause in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8) if WINDOWS else ():
        with suppress(PermissionError):
            os.replace(source, path)
            return
        time.sleep(pause)
    os.replace(source, path)


def _check_name(name: str) -> None:
    """Raise InputError for a name that Windows takes for a device, a stream or another name."""
    device = name.split(".")[0].rstrip().upper() in DEVICES
    if device or set(name) & set('<>:"/\\|?*') or name[-1] in ". ":
        raise InputError(f"path must be a name that Windows has for a file, not {name!r}")


@contextmanager
def lock_file(path: Path, *others: Path) -> Iterator[None]:
    """Keep other runs from writing `path`, and `others` that go with it, while the block lasts.

    Raises InputError if another run holds the lock.
    """
    lock = _locked(
        path.with_name(f"{path.name}.lock"),
        f"another run is writing {path}: wait for it, or name another file or folder",
    )
    try:
        for file in map(Path, map(os.path.realpath, (path, *others))):
            partials = file.parent.glob("*.partial")
            _remove(part for part in partials if part.name.rsplit(".", 2)[0] == file.name)
        yield
    finally:
        _unlock(lock)


_held: dict[Path, FileLock] = {}  # the locks of folders, each held until this process ends


def lock_folder(folder: Path) -> None:
    """Create and lock `folder` until this process exits. Call it before long work.

    Raises InputError if the folder cannot be written to or another run holds it: the two would
    replace each other's results. A second call in one process does nothing.
    """
    check_folder(folder)
    folder = folder.resolve()
    if folder in _held:
        return
    _held[folder] = _locked(
        folder / ".lock",
        f"another run is writing to {folder}: wait for it, or name another folder",
    )
    _remove(folder.rglob("*.partial"))


def check_folder(folder: Path) -> None:
    """Create `folder`; raise InputError if it cannot be written to. Call it before long work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _locked(path: Path, taken: str) -> FileLock:
    """The lock on the file `path`, held; InputError with the message `taken` if another has it."""
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(taken) from error
    except OSError as error:
        raise _cannot_write(path, error) from error
    return lock


def _unlock(lock: FileLock) -> None:
    """Release `lock` and remove its file.

    Removed first: afterwards it may be another run's. Windows removes no open file; there
    filelock does it.
    """
    with suppress(OSError):
        os.unlink(lock.lock_file)
    lock.release()


@atexit.register
def _unlock_folders() -> None:
    for lock in _held.values():
        if lock.is_locked:  # not in a forked child
            _unlock(lock)


def _remove(partials: Iterable[Path]) -> None:
    """Remove what killed processes left half-written. Whoever calls holds the lock: none writes."""
    for partial in partials:
        with suppress(OSError):
            partial.unlink()


def _cannot_write(path: Path, error: OSError) -> InputError:
    reason, remedy = (
        error.strerror or error,
        "free some space, or name a folder that can be written",
    )
    length = len(os.path.abspath(path)) + len(f".{os.getpid()}.partial")
    if WINDOWS and length > 259:
        reason, remedy = (
            f"Windows takes 259 characters, and this needs {length}",
            "shorten the path",
        )
    elif WINDOWS and isinstance(error, PermissionError):
        remedy = "close the program that has it open, or name a folder that can be written"
    return InputError(f"cannot write {path}: {reason}; {remedy}")
