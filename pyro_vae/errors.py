"""The one exception that means "the input was wrong", as opposed to "the program is"."""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import TypeVar, Union, get_args, get_origin

import numpy as np
from torch import Tensor

Function = TypeVar("Function", bound=Callable)


class InputError(ValueError):
    """Wrong input. The message is one line that names the argument and the remedy.

    The experiment scripts print it and end with exit code 2; in a notebook it is raised as is.
    """

    def __init__(self, message: str):
        # where one is raised inside a model or guide Pyro makes it again, with the shapes of its
        # trace in further lines
        super().__init__(message.partition("\n")[0])


def checked(function: Function) -> Function:
    """`function`, raising InputError for any argument that is not what its annotation says.

    So that every function a user calls need only look at values and shapes. A whole number does
    for a number; True is neither; a list does for a tuple. Also where a distribution refuses its
    parameters or values: of that PyTorch and Pyro tell in many lines.
    """
    signature = inspect.signature(function)
    expected = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if parameter.annotation is not inspect.Parameter.empty
    }

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # which says what is missing, or too much
        for name in given:
            several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            for value in given[name] if several else [given[name]]:
                if not _fits(value, expected.get(name, object)):
                    raise InputError(
                        f"{name} must be {_words(expected[name])}, not {describe(value)}"
                    )
        try:
            return function(*args, **kwargs)
        except InputError:
            raise
        except ValueError as error:
            refused = refused_by_distribution(error)
            if not refused:
                raise
            raise InputError(
                f"model or guide: {refused}; look for numbers in weights or images that are not "
                "finite, or too large"
            ) from error

    return call


def refused_by_distribution(error: ValueError) -> str:
    """What a distribution says where it does not take its parameters or values; else nothing."""
    told = re.search(
        "Expected (parameter|value argument) .*? found invalid values", str(error), re.S
    )
    return " ".join(told[0].split()) if told else ""


# What an annotation is called in a message.
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
    Path: "a path",
    NoneType: "None",
    Tensor: "a tensor",
    np.ndarray: "an array",
}


def _fits(value: object, expected: object) -> bool:
    """Whether `value` is what the annotation `expected` says."""
    kind_of, parts = get_origin(expected), get_args(expected)
    if kind_of in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind_of is Callable:
        return callable(value)
    if kind_of in (tuple, list, Sequence):
        several = isinstance(value, Sequence) and not isinstance(value, str)
        return several and all(_fits(item, parts[0]) for item in value)
    if kind_of is dict:
        return isinstance(value, dict) and all(
            _fits(key, parts[0]) and _fits(item, parts[1]) for key, item in value.items()
        )
    if isinstance(value, bool) and expected in (int, float):
        return False
    return isinstance(value, int | float if expected is float else kind_of or expected)


def _words(expected: object) -> str:
    """The annotation `expected` in words."""
    kind_of, parts = get_origin(expected), get_args(expected)
    if kind_of in (Union, UnionType):
        return " or ".join(_words(part) for part in parts)
    if kind_of is Callable:
        program = "a Pyro program, a function or module"
        return program if parts[-1] is object else "a function or class"
    if kind_of in (tuple, list, Sequence):
        return f"a tuple or list (each item {_words(parts[0])})"
    if kind_of is dict:
        return f"a dict (each key {_words(parts[0])}, each value {_words(parts[1])})"
    return _WORDS.get(expected, f"of class {(kind_of or expected).__name__}")


def describe(value: object) -> str:
    """What `value` is, in a few words and on one line, for a message."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, np.generic):
        return f"NumPy's {type(value).__name__}"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, list | tuple):
        items = [*(describe(item) for item in value[:4]), *["..."] * (len(value) > 4)]
        return f"{type(value).__name__}({', '.join(items)})"
    if isinstance(value, dict):
        some = list(value.items())[:4]
        items = [*(f"{key!r}: {describe(item)}" for key, item in some), *["..."] * (len(value) > 4)]
        return f"dict({', '.join(items)})"
    return type(value).__name__


LARGEST = 10**9  # of what is counted: torch fails in its own words where there is no room for more


def check_counts(least: int = 1, /, **counts: object) -> None:
    """Raise InputError unless each of the named values is a whole number, `least` to LARGEST."""
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{name} must be a whole number >= {least}, not {value!r}")
        if value > LARGEST:
            raise InputError(f"{name} must be at most {LARGEST:,}, not {value:,}")


def check_seed(seed: int) -> None:
    """Raise InputError unless every generator of random numbers here takes `seed`."""
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be a whole number from 0 to 2**32 - 1, not {seed}")


def check_number(name: str, value: object, low: float, high: float = math.inf) -> None:
    """Raise InputError unless `value` is a finite number from `low` to `high`."""
    if not isinstance(value, int | float) or not (low <= value <= high and math.isfinite(value)):
        within = f"from {low:g} to {high:g}" if math.isfinite(high) else f">= {low:g}"
        raise InputError(f"{name} must be a number {within}, not {value!r}")


def check_choice(choices: Iterable[str], /, **chosen: object) -> None:
    """Raise InputError unless each of the named values is one of `choices`."""
    for name, value in chosen.items():
        if not isinstance(value, str) or value not in choices:
            raise InputError(f"{name} {value!r} is unknown: choose from {', '.join(choices)}")


def check_rows(*rows: Tensor, first: str = "x") -> None:
    """Raise InputError unless these have equal lengths >= 1: what is called `first`, and labels y.

    A row is what belongs to one image.
    """
    for name, tensor in zip((first, "y", *("labels",) * len(rows)), rows, strict=False):
        if tensor.dim() == 0:
            raise InputError(f"{name} must have a row for each image, not {describe(tensor)}")
        if len(tensor) != len(rows[0]):
            raise InputError(f"{name} must have a row for each of {len(rows[0])} images")
    if not rows or len(rows[0]) == 0:
        raise InputError(f"{first} must hold at least one image")


def check_numbers(*sizes: str, **arrays: np.ndarray) -> None:
    """Raise InputError unless each is an array of numbers with these sizes, none of them zero."""
    for name, array in arrays.items():
        if array.ndim != len(sizes) or array.size == 0 or array.dtype.kind not in "iuf":
            shape = f"({', '.join(sizes)}{',' * (len(sizes) == 1)}), {' and '.join(sizes)} >= 1"
            raise InputError(f"{name} must be numbers {shape}, not {describe(array)}")


def check_table(**arrays: np.ndarray) -> None:
    """Raise InputError unless each is an array (N, d), N and d >= 1, of finite numbers."""
    check_numbers("N", "d", **arrays)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{name} must hold finite numbers")


def check_classes(rows: int, classes: int | None = None, /, **labels: np.ndarray) -> None:
    """Raise InputError unless each holds one label for each of `rows`, below `classes` if given."""
    for name, array in labels.items():
        whole = array.shape == (rows,) and array.dtype.kind in "iu"
        if not whole or array.min() < 0 or (classes is not None and array.max() >= classes):
            values = ">= 0" if classes is None else f"from 0 to {classes - 1}"
            raise InputError(f"{name} must be one whole number {values} for each of {rows} rows")
