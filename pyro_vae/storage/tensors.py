"""Weights on disk: written whole, read without running code, checked against their networks."""

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
    """Write a dict of tensors, numbers, texts, lists and dicts, all at once or not at all.

    Raises InputError for content that could not be read again, and where `path` cannot be written.
    """
    packed = pack(content)
    with atomic_write(path) as partial:
        partial.write_bytes(packed)


def pack(content: dict) -> bytes:
    """`content` as the bytes of a file, or InputError if `load_tensors` would not read them."""
    buffer = io.BytesIO()  # torch's own writer reports a full disk as an error of its own kind
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
    path: str | Path, kind: str, keys: set[str], remedy: str = "delete it and train again"
) -> dict:
    """Read what `save_tensors` wrote; `weights_only`, so that a hostile file cannot run code.

    Raises InputError if the file is absent, damaged (each part of it has a checksum), of another
    program, or lacks one of `keys`.
    """
    if not os.path.isfile(path):  # Path's own fails for a name that is too long
        raise InputError(f"{path} is not a file: train first, or name another checkpoint")
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


@contextmanager
def blaming(path: str | Path, remedy: str = "delete it and train again") -> Iterator[None]:
    """While the content of a file is put to use: what is wrong with it is an InputError.

    For files that are whole and have the right keys, and still not what belongs there.
    """
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError) as error:
        if isinstance(error, InputError) and str(path) in str(error):
            raise
        what = str(error) if isinstance(error, InputError) else type(error).__name__
        raise InputError(f"{path} holds what does not belong there ({what}): {remedy}") from error


@checked
def load_weights(module: nn.Module, state: dict, path: str | Path) -> None:
    """Load `state` into `module`, or raise InputError and leave it as it is."""
    own = {name: describe(w) for name, w in module.state_dict().items()}
    found = {name: describe(w) for name, w in state.items()}
    for name in own.keys() | found.keys():
        if own.get(name) != found.get(name):
            raise InputError(
                f"{path} holds another architecture: {name} is {found.get(name, 'absent')} there "
                f"and {own.get(name, 'absent')} here; name another checkpoint, or the latent "
                "dimension it was trained with"
            )
    if not all(bool(w.isfinite().all()) for w in state.values()):
        raise InputError(f"{path} holds weights that are not finite: train again")
    module.load_state_dict(state)
