"""Weights on disk: written whole, read without running code, held against their network."""

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from pyro_vae.errors import InputError, checked, describe
from pyro_vae.storage.files import atomic_write


@checked
def save_tensors(path: str | Path, content: dict) -> None:
    """Write a dict of tensors, numbers, texts, lists and dicts, wholly or not at all.

    Raises InputError if the content could not be read again, or `path` cannot be written.
    """
    packed = pack(content)
    with atomic_write(path) as partial:
        partial.write_bytes(packed)


def pack(content: dict) -> bytes:
    """Return a file's bytes for `content`; raise InputError if it could not be read again."""
    buffer = io.BytesIO()  # in memory: torch's own writer hides which error a full disk gave
    try:
        torch.save(content, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:  # whatever pickle and the classes in it raise
        raise InputError(
            "content must be tensors, numbers, texts, lists and dicts, of Python's own types "
            f"({type(error).__name__})"
        ) from error
    return buffer.getvalue()


@checked
def load_tensors(
    path: str | Path, kind: str, keys: set[str], remedy: str = "name another file"
) -> dict:
    """Read what `save_tensors` wrote. By `weights_only`, so that a hostile file runs no code.

    Raises InputError if the file is absent, damaged (each of its parts has a checksum), another
    program's, or lacks one of `keys`. The message calls it `kind` and ends with `remedy`.
    """
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise InputError(
            f"{path} is not a file, seen from the working directory {os.getcwd()}: "
            "give its full path, or name another file"
        )
    try:
        with zipfile.ZipFile(path) as parts:
            if parts.testzip() is not None:
                raise zipfile.BadZipFile
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}; mend that, or name another file"
        ) from error
    except Exception as error:  # torch.load raises anything from EOFError to UnpicklingError
        raise InputError(
            f"{path} is not {kind} that can be read ({type(error).__name__}): it is damaged or "
            f"of another program; {remedy}"
        ) from error
    if not isinstance(content, dict) or not keys <= content.keys():
        lacking = sorted(keys - content.keys()) if isinstance(content, dict) else sorted(keys)
        raise InputError(f"{path} is not {kind}: it lacks {lacking}; name another file")
    return content


def check_replaceable(path: str | Path, kind: str, keys: set[str]) -> None:
    """Raise InputError if there is a file at `path` that is not `kind`: it is kept."""
    if os.path.exists(path):
        load_tensors(path, kind, keys, "it is kept: name another file, or delete it")


@contextmanager
def blaming(path: str | Path, remedy: str = "delete it and train again") -> Iterator[None]:
    """Turn an error in this block into an InputError that names `path`.

    For a block that uses a file's content: a whole file with the right keys may still hold wrong
    values.
    """
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError) as error:
        if isinstance(error, InputError) and str(path) in str(error):
            raise
        reason = str(error) if isinstance(error, InputError) else type(error).__name__
        raise InputError(f"{path} has unexpected content ({reason}): {remedy}") from error


@checked
def load_weights(module: nn.Module, state: dict, path: str | Path) -> None:
    """Load `state` into `module`; raise InputError and leave it as it is if the two do not fit.

    `path` is the file that messages name.
    """
    here = {name: describe(w) for name, w in module.state_dict().items()}
    there = {name: describe(w) for name, w in state.items()}
    for name in here | there:
        if here.get(name) != there.get(name):
            raise InputError(
                f"{path} holds another architecture: {name} is {there.get(name, 'absent')} there "
                f"and {here.get(name, 'absent')} here; name another checkpoint, or the latent "
                "dimension it was trained with"
            )
    if not all(bool(w.isfinite().all()) for w in state.values()):
        raise InputError(f"{path} holds weights that are not finite: train again")
    module.load_state_dict(state)
