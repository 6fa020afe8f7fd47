"""The one exception that means "the input was wrong", as opposed to "the program is".

Arrays and tensors are told by `dtype` and `shape`, so that this module imports neither NumPy nor
PyTorch.
"""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from numbers import Integral, Real
from types import UnionType
from typing import TYPE_CHECKING, Annotated, TypeVar, Union, get_args, get_origin

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor

Function = TypeVar("Function", bound=Callable)


class InputError(ValueError):
    """Wrong input. The message is one line that names the argument and the remedy.

    The experiment scripts print it and end with exit code 2; in a notebook it is raised as is.

    >>> from pyro_vae import InputError, Vae
    >>> try:
    ...     Vae.build(latent_dim=0)
    ... except InputError as error:
    ...     print(error)
    latent_dim must be a whole number >= 1, not 0
    """

    def __init__(self, message: str):
        # Pyro raises an error from within a model or guide again, with its trace's shapes in
        # further lines
        super().__init__(message.partition("\n")[0])


class LostProcess(RuntimeError):
    """Another process of the group does not answer, or its machine: see `pyro_vae.parallel`."""


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called this package, however deep in it this is."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


_OURS = ("pyro_vae", "contextlib")


def checked(function: Function) -> Function:
    """Check each argument against its annotation; raise InputError.

    An int passes as a float, a list as a tuple; a bool is not a number. NumPy's numbers pass, and
    reach `function` as Python's int and float, which a file of settings can hold.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # whose own error says what is missing, or too much
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            expected = parameter.annotation
            if expected is parameter.empty:
                continue
            for item in value if parameter.kind is parameter.VAR_POSITIONAL else [value]:
                if not _fits(item, expected):
                    hint = _meant_by_name(signature, item) if value is not item else ""
                    wrong = f"{name} must be {_words(expected)}, not {describe(item)}"
                    raise InputError(wrong + hint)
            if expected is not object:
                bound.arguments[name] = _python_number(value)
        return function(*bound.args, **bound.kwargs)

    return call


def _meant_by_name(signature: inspect.Signature, item: object) -> str:
    """Say that options have names, where a number stands in the place of a further argument."""
    if isinstance(item, Real) and not isinstance(item, bool):
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and _fits(item, parameter.annotation):
                return f": options are given by name, such as {name}={item!r}"
    return ""


# What an annotation is called in a message, by its class's name.
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "str": "a text",
    "Path": "a path",
    "NoneType": "None",
    "Tensor": "a tensor",
    "ndarray": "an array",
    "list": "a list",
}


def _fits(value: object, expected: object) -> bool:
    """Whether `value` is what the annotation `expected` says."""
    origin, parts = get_origin(expected), get_args(expected)
    if origin is Annotated:
        return _fits(value, parts[0])
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Callable:
        return callable(value)
    if origin in (tuple, list, Sequence):
        several = isinstance(value, Sequence) and not isinstance(value, str)
        return several and all(_fits(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, parts[0]) and _fits(item, parts[1]) for key, item in value.items()
        )
    if expected in (int, float):
        number = Integral if expected is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, origin or expected)


def _python_number(value: object) -> object:
    """`value`, as an int or float where it is a number of another class, such as NumPy's."""
    if not isinstance(value, Real) or type(value) in (bool, int, float):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _words(expected: object) -> str:
    """The annotation `expected` in words."""
    origin, parts = get_origin(expected), get_args(expected)
    if origin is Annotated:  # an alias with words of its own, such as `Images`
        return parts[1]
    if origin in (Union, UnionType):
        return " or ".join(_words(part) for part in parts)
    if origin is Callable:
        program = "a Pyro program, a function or module"
        return program if parts == (Ellipsis, object) else "a function or class"
    if origin in (tuple, list, Sequence):
        return f"a tuple or list (each item {_words(parts[0])})"
    if origin is dict:
        return f"a dict (each key {_words(parts[0])}, each value {_words(parts[1])})"
    name = (origin or expected).__name__
    return _WORDS.get(name, f"of class {name}")


def describe(value: object) -> str:
    """Describe `value` in a few words and on one line, for a message."""
    name = type(value).__name__
    if hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, type):
        if type(value).__module__ == "numpy" and name != "ndarray":
            return f"NumPy's {name}"
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, list | tuple):
        items = [*(describe(item) for item in value[:4]), *["..."] * (len(value) > 4)]
        return f"{name}({', '.join(items)})"
    if isinstance(value, dict):
        some = list(value.items())[:4]
        items = [*(f"{key!r}: {describe(item)}" for key, item in some), *["..."] * (len(value) > 4)]
        return f"dict({', '.join(items)})"
    return name


LARGEST = 10**9  # largest count accepted; beyond it torch fails with an error of its own


def check_counts(least: int = 1, /, **counts: object) -> None:
    """Raise InputError unless each of the named values is a whole number, `least` to LARGEST."""
    for name, value in counts.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise InputError(f"{name} must be a whole number >= {least}, not {value!r}")
        if value > LARGEST:
            raise InputError(f"{name} must be at most {LARGEST:,}, not {value:,}")


def check_seed(seed: int) -> None:
    """Raise InputError unless every generator of random numbers here takes `seed`."""
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be a whole number from 0 to 2**32 - 1, not {seed}")


def check_number(name: str, value: object, low: float, high: float = math.inf) -> None:
    """Raise InputError unless `value` is a finite number from `low` to `high`."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not (low <= value <= high and math.isfinite(value)):
        within = f"from {low:g} to {high:g}" if math.isfinite(high) else f">= {low:g}"
        raise InputError(f"{name} must be a number {within}, not {value!r}")


def check_choice(choices: Iterable[str], /, **chosen: object) -> None:
    """Raise InputError unless each of the named values is one of `choices`."""
    for name, value in chosen.items():
        if not isinstance(value, str) or value not in choices:
            raise InputError(f"{name} {value!r} is unknown: choose from {', '.join(choices)}")


def check_rows(*batch: Tensor, first: str = "x") -> None:
    """Raise InputError unless x and its labels hold equally many images, at least one.

    `first` is what messages call x.
    """
    for i, tensor in enumerate(batch):
        name = (first, "y")[i] if i < 2 else "labels"
        if tensor.dim() == 0:
            raise InputError(f"{name} must have a row for each image, not {describe(tensor)}")
        if len(tensor) != len(batch[0]):
            raise InputError(
                f"{name} must have a row for each of {len(batch[0])} images, not {describe(tensor)}"
            )
    if not batch or len(batch[0]) == 0:
        raise InputError(f"{first} must hold at least one image")


def check_numbers(*sizes: str, **arrays: ndarray) -> None:
    """Raise InputError unless each is an array of numbers with these sizes, none of them zero."""
    for name, array in arrays.items():
        if array.ndim != len(sizes) or array.size == 0 or array.dtype.kind not in "iuf":
            shape = f"({', '.join(sizes)}{',' * (len(sizes) == 1)}), {' and '.join(sizes)} >= 1"
            raise InputError(f"{name} must be numbers {shape}, not {describe(array)}")


def check_table(**arrays: ndarray) -> None:
    """Raise InputError unless each is an array (N, d), N and d >= 1, of finite numbers."""
    check_numbers("N", "d", **arrays)
    for name, array in arrays.items():
        if not (abs(array) < math.inf).all():  # false for NaN too
            raise InputError(f"{name} must hold finite numbers")


def check_classes(rows: int, classes: int | None = None, /, **labels: ndarray) -> None:
    """Raise InputError unless each holds one label for each of `rows`, below `classes` if given."""
    for name, array in labels.items():
        whole = array.shape == (rows,) and array.dtype.kind in "iu"
        if not whole or array.min() < 0 or (classes is not None and array.max() >= classes):
            values = ">= 0" if classes is None else f"from 0 to {classes - 1}"
            raise InputError(f"{name} must be one whole number {values} for each of {rows} rows")
