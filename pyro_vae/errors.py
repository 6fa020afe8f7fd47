"""The one exception that means "the input was wrong", as opposed to "the program is"."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor


class InputError(ValueError):
    """Wrong input. The message is one line that names the argument and the remedy.

    The experiment scripts print it and end with exit code 2; in a notebook it is raised as is.
    """

    def __init__(self, message: str):
        # where one is raised inside a model or guide Pyro makes it again, with the shapes of its
        # trace in further lines
        super().__init__(message.partition("\n")[0])


def check_counts(least: int = 1, /, **counts: object) -> None:
    """Raise InputError unless each of the named values is a whole number, `least` or more."""
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{name} must be a whole number >= {least}, not {value!r}")


def check_number(name: str, value: object, low: float, high: float = math.inf) -> None:
    """Raise InputError unless `value` is a finite number from `low` to `high`."""
    if not isinstance(value, int | float) or not (low <= value <= high and math.isfinite(value)):
        raise InputError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")


def check_choice(choices: Iterable[str], /, **chosen: object) -> None:
    """Raise InputError unless each of the named values is one of `choices`."""
    for name, value in chosen.items():
        if not isinstance(value, str) or value not in choices:
            raise InputError(f"{name} {value!r} is unknown: choose from {', '.join(choices)}")


def check_path(**paths: object) -> None:
    """Raise InputError unless each names a file or folder."""
    for name, path in paths.items():
        if not isinstance(path, str | Path):
            raise InputError(f"{name} must be a path, a text or Path, not {kind(path)}")


def check_callables(**programs: object) -> None:
    """Raise InputError unless each can be called, as a Pyro model or guide is."""
    for name, program in programs.items():
        if not callable(program):
            raise InputError(
                f"{name} must be a Pyro program, a function or module, not {kind(program)}"
            )


def check_rows(*rows: object) -> None:
    """Raise InputError unless these are tensors of equal length >= 1: images x, and labels y."""
    for name, tensor in zip(("x", "y", *("labels",) * len(rows)), rows, strict=False):
        if not isinstance(tensor, Tensor) or tensor.dim() == 0:
            raise InputError(
                f"{name} must be a tensor with a row for each image, not {kind(tensor)}"
            )
        if len(tensor) != len(rows[0]):
            raise InputError(f"{name} must have a row for each of {len(rows[0])} images")
    if not rows or len(rows[0]) == 0:
        raise InputError("x must hold at least one image")


def check_table(**arrays: object) -> None:
    """Raise InputError unless each is an array (N, d), N and d >= 1, of finite numbers."""
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.size == 0:
            raise InputError(f"{name} must be an array (N, d), N and d >= 1, not {kind(array)}")
        if not np.isfinite(array).all():
            raise InputError(f"{name} must hold finite numbers")


def kind(value: object) -> str:
    """What `value` is, in a few words, for a message."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return type(value).__name__
