"""What PyTorch and Pyro complain of in many lines, said in one that names the remedy.

Tensors are told by `dtype` and `shape`, so that this module imports neither NumPy nor PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

from pyro_vae.errors import InputError, describe

if TYPE_CHECKING:
    from torch import Tensor

Function = TypeVar("Function", bound=Callable)


def one_line_refusals(function: Function) -> Function:
    """Turn a distribution's complaint, many lines in PyTorch and Pyro, into an InputError.

    For functions that run a model, guide or prior. Goes below `checked`.
    """

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        try:
            return function(*args, **kwargs)
        except InputError:
            raise
        except RuntimeError as error:
            line = str(error).partition("\n")[0]
            remedy = next((mend for words, mend in _COMPLAINTS if re.search(words, line)), None)
            if remedy is None or "cuda" in line:
                raise
            given = [describe(tensor) for tensor in _tensors([*args, *kwargs.values()])]
            raise InputError(
                f"model or guide: {line}; it was given {' and '.join(given) or 'images'}: {remedy}"
            ) from error
        except ValueError as error:
            if shapes := re.search(r"Shape mismatch inside plate.*", str(error)):
                raise InputError(
                    f"model or guide: {shapes[0]}: a plate holds the images alone; declare the "
                    "dimensions of one image with .to_event()"
                ) from error
            if outside := _outside_support(str(error)):
                raise InputError(f"model or guide: {outside}") from error
            refused = refused_by_distribution(error)
            if not refused:
                raise
            raise InputError(
                f"model or guide: {refused}; {_large([*args, *kwargs.values()])}look for numbers "
                "in weights or images that are not finite, or too large"
            ) from error

    return call


# How PyTorch complains of what a network does not take, and what to do.
_COMPLAINTS = (
    (
        "same dtype|expected scalar type|should be the same|not implemented for '|Found dtype",
        "give numbers of the type of the weights, as by x.float(), or x.float() / 255 of grey "
        "levels from 0 to 255",
    ),
    (
        "shapes cannot be multiplied|to have \\d+ channels|size mismatch",
        "give images of the shape that its networks take",
    ),
    (
        'missing the required "forward"',
        "give programs, which are called with images, such as vae.model and vae.guide",
    ),
)


def _tensors(values: Iterable[object]) -> list[Tensor]:
    """Return the tensors among `values`, in the lists and tuples there too."""
    found = []
    for value in values:
        if isinstance(value, list | tuple):
            found += _tensors(value)
        elif hasattr(value, "dtype") and hasattr(value, "shape"):
            found.append(value)
    return found


def _large(values: Iterable[object]) -> str:
    """Return the remedy for grey levels up to 255; empty where no tensor has such numbers."""
    most = max((float(t.detach().max()) for t in _tensors(values) if 0 not in t.shape), default=0)
    return f"it was given numbers up to {most:g}: divide grey levels by their maximum, or " * (
        most > 1
    )


def refused_by_distribution(error: ValueError) -> str:
    """Return the distribution's complaint about invalid parameters or values, on one line.

    Empty for any other error.
    """
    complaint = re.search(
        "Expected (parameter|value argument) .*? found invalid values", str(error), re.S
    )
    return " ".join(complaint[0].split()) if complaint else ""


# What a distribution's support is in words, by PyTorch's, and what to do about other values.
_SUPPORTS = (
    (
        r"Boolean\(\)",
        "0 or 1",
        "score grey pixels by pyro_vae.GreyBernoulli, or binarise them: transform=torch.bernoulli "
        "in fit, x.bernoulli() for scoring",
    ),
    (r"Real\(\)", "numbers and not NaN", "look for NaN in weights and images"),
    (
        r"Interval\(lower_bound=0\.0, upper_bound=1\.0\)",
        "from 0 to 1",
        "divide grey levels by their maximum",
    ),
    (
        r"IntegerInterval\(lower_bound=(-?\d+), upper_bound=(-?\d+)\)",
        "whole numbers from {} to {}",
        "make whole numbers of grey levels x in [0, 1], as by (255 * x).round() for 0 to 255",
    ),
    (
        r"IntegerGreaterThan\(lower_bound=(-?\d+)\)",
        "whole numbers >= {}",
        "make whole numbers of grey levels x in [0, 1], as by (255 * x).round() for 0 to 255",
    ),
    (r"GreaterThan\(lower_bound=([-\d.]+)\)", "numbers > {}", ""),
    (r"GreaterThanEq\(lower_bound=([-\d.]+)\)", "numbers >= {}", ""),
    (r"(.*)", "in {}", ""),
)


def _outside_support(error: str) -> str:
    """Say plainly what values a distribution takes that has refused others; else return ""."""
    complaint = re.search(r"within the support \((.*?)\) of the distribution (\w+)\(", error, re.S)
    if not complaint:
        return ""
    support = re.sub(r"IndependentConstraint\((.*), \d+\)", r"\1", " ".join(complaint[1].split()))
    found, words, remedy = next(
        (found, words, remedy)
        for pattern, words, remedy in _SUPPORTS
        if (found := re.fullmatch(pattern, support))
    )
    site = re.search(r"at site '(.*?)'", error)
    where = f"site {site[1]!r} is" if site else "a site is"
    return (
        f"{where} a {complaint[2]}, whose values are {words.format(*found.groups())}, and was "
        f"given others: {remedy or 'give it images, or draws of the guide, of that kind'}"
    )
