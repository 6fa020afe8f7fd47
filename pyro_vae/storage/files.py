"""Files that are either whole or absent, whatever kills the program that writes them."""

import fcntl
import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyro_vae.errors import InputError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A path to write to; when the block ends well, it is renamed to `path` in one step.

    A reader of `path` sees the old file or the new one, never a part. The data reaches the disk
    before the name does, so that this holds for a power cut too. Parts are told apart by the
    numbers of their processes: the programs that write to one folder must run on one machine.

        with whole_file("metrics.json") as partial:
            partial.write_text(...)
    """
    path = Path(path)
    if not path.name or "\0" in str(path):
        raise InputError(f"path must name a file, not {str(path)!r}")
    if os.path.islink(path):  # what it points to is replaced, and not the link
        path = Path(os.path.realpath(path))
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
            if not _runs(left.suffixes[-2]):  # its process was killed as it wrote
                left.unlink(missing_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Keep other runs from writing `path`, and what goes with it, while the block lasts.

    Raises InputError if another run does.
    """
    lock = path.with_name(f"{path.name}.lock")
    taken = InputError(
        f"another run is writing {path}: wait for it, or name another file or folder"
    )
    try:
        file = lock.open("a")
    except OSError as error:
        raise _cannot_write(lock, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise taken from error
        except OSError as error:
            raise _cannot_write(lock, error) from error
        # whoever had it may have ended, and removed it, since it was opened
        if not (lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat())):
            raise taken
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


_held: dict[Path, int] = {}  # folders that are this process's until it ends


def lock_folder(folder: Path) -> None:
    """Make `folder` and keep other runs out of it until this process ends, however it does.

    Raises InputError, before long work and not after it, if it cannot be written to or is held by
    another run: the two would replace each other's results.
    """
    check_folder(folder)
    folder = folder.resolve()
    if folder in _held:
        return
    try:
        number = os.open(folder, os.O_RDONLY)
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(number)
        raise InputError(
            f"another run is writing to {folder}: wait for it, or name another folder by --results"
        ) from error
    except OSError as error:
        raise _cannot_write(folder, error) from error
    _held[folder] = number


def check_folder(folder: Path) -> None:
    """Make `folder`, or raise InputError: before long work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _runs(suffix: str) -> bool:
    """Whether there is a process with the number in a file's suffix `.number`."""
    try:
        os.kill(int(suffix[1:]), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:  # another user's
        pass
    return True


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write {path}: {error.strerror or error}; "
        "free some space, or name a folder that can be written"
    )
