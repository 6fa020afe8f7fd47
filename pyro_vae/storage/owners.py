"""Programs of the user's own in a checkpoint: whose weights they are, and what they are called."""

import inspect
from pathlib import Path

from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.programs import Program


def module_of(program: Program) -> nn.Module:
    """Return the module that a program is, or is a method of."""
    module = getattr(program, "__self__", program)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"{name_of(program)} has no weights to store or load: a checkpoint takes programs that "
            "are modules, or methods of modules"
        )
    return module


def name_of(program: Program) -> str:
    """Return a program's class, or class and method, or function."""
    if inspect.ismethod(program):
        return f"{type(program.__self__).__name__}.{program.__name__}"
    return program.__name__ if inspect.isfunction(program) else type(program).__name__


def check_programs(stored: dict[str, str], given: dict[str, Program], path: str | Path) -> None:
    """Raise InputError unless the given programs have the names of those in the file."""
    here = {name: name_of(program) for name, program in given.items()}
    if stored and not here:
        raise InputError(
            f"{path} holds the weights of programs of your own, {stored['model']} and "
            f"{stored['guide']}: give them, Vae.load(path, model=..., guide=...)"
        )
    if here and not stored:
        raise InputError(f"{path} holds what Vae.build builds: load it without model and guide")
    if here != stored:
        there, ours = (", ".join(f"{k} {v}" for k, v in each.items()) for each in (stored, here))
        raise InputError(f"{path} holds the weights of {there}, not of {ours}: give the first")
