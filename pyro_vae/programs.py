"""A user's Pyro program from outside: its modules, their mode, and what it leaves behind.

A program is a Pyro model or guide: a function, a module, or a method of one, called on a batch,
`program(x)` or `program(x, y)`.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial, wraps
from types import CodeType, ModuleType
from typing import NamedTuple, TypeVar

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_vae.memory import memory_kept
from pyro_vae.seeds import GLOBAL_STATE_LOCK

Program = Callable[..., object]
Function = TypeVar("Function", bound=Callable)


def modules_of(*programs: object) -> list[nn.Module]:
    """Return every module that the programs use, and all parts of these modules.

    A program's modules are itself, the object whose method it is, and what it names: in its
    closure, its defaults, its arguments if it is a partial, its attributes, and its file's globals.
    """
    modules: list[nn.Module] = []
    seen: set[int] = set()
    todo = [*programs]
    while todo:
        part = todo.pop()
        if id(part) not in seen:
            seen.add(id(part))
            modules += [part] if isinstance(part, nn.Module) else []
            todo += _named_in(part)
    return modules


def move(device: str | torch.device | torch.dtype, *programs: object) -> None:
    """Move the weights of every module that the programs use to a device or dtype, in place."""
    for module in modules_of(*programs):
        module.to(device)


def own_module(program: object) -> nn.Module | None:
    """Return the module that a program is or is a method of, or None.

    The program may be within Pyro's handlers or a partial.
    """
    while isinstance(program, partial):  # `config_enumerate(guide)` is one too
        handled = len(program.args) > 1 and isinstance(program.args[0], Messenger)
        program = program.args[1] if handled else program.func
    owner = program.__self__ if inspect.ismethod(program) else program
    return owner if isinstance(owner, nn.Module) else None


class TakenLabels(NamedTuple):
    """The labels that a program takes after the images: how many, and their names."""

    least: int
    most: float
    names: list[str]
    given: bool  # whether those that a data set gives with its images are meant for it


def labels_of(program: object) -> TakenLabels:
    """Return which labels a program takes, by its signature, or by its own `takes_labels`.

    A parameter with a default is taken for a label where that is None, as in `model(x, y=None)`.
    """
    own = getattr(program, "takes_labels", None)
    if isinstance(own, bool):
        return TakenLabels(own, own, ["y"] * own, own)
    function = program.forward if isinstance(program, nn.Module) else program
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # not known, or no function
        return TakenLabels(0, math.inf, [], True)
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    after = [p for p in parameters if p.kind in by_place][1:]
    least = len([p for p in after if p.default is p.empty])
    names = [p.name for p in after if p.default is p.empty or p.default is None]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return TakenLabels(least, math.inf if several else len(after), names, bool(names) or several)


def _named_in(part: object) -> list[object]:
    """Return the objects that `part` names, among which its modules may be."""
    if isinstance(part, partial):
        return [part.func, *part.args, *part.keywords.values()]
    if inspect.ismethod(part):
        return [part.__func__, part.__self__]
    if inspect.isfunction(part):
        names, globals_ = _global_names(part.__code__), part.__globals__
        # of functions only those of the same file: Pyro's own name half of Pyro
        named = [globals_[name] for name in names if name in globals_]
        near = [o for o in named if _is_of_file(o, globals_)]
        for file in (o for o in named if isinstance(o, ModuleType)):  # import nets; nets.decoder
            near += [o for o in map(vars(file).get, names) if isinstance(o, nn.Module)]
        defaults = [*(part.__defaults__ or ()), *(part.__kwdefaults__ or {}).values()]
        return [*near, *defaults, *inspect.getclosurevars(part).nonlocals.values()]
    if isinstance(part, dict):
        return list(part.values()) if len(part) <= 1000 else []
    if isinstance(part, list | tuple):
        return list(part) if len(part) <= 1000 else []
    if isinstance(part, type | ModuleType | Tensor):
        return []
    return list(vars(part).values()) if hasattr(part, "__dict__") else []


def _global_names(code: CodeType) -> set[str]:
    """Return the names that a function's code uses, and that of functions and lambdas inside it."""
    inner = [_global_names(const) for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*inner)


def _is_of_file(part: object, globals_: dict) -> bool:
    """Return False for functions of another file, unless they wrap one of this file."""
    owners = [part, inspect.unwrap(part)] if inspect.isfunction(part) else [part]
    return any(getattr(owner, "__globals__", globals_) is globals_ for owner in owners)


@contextmanager
def unrounded() -> Iterator[None]:
    """Run the block in the precision of its weights and images, whatever is set around it.

    Off are autocast and the rounding of matrix products by `torch.set_float32_matmul_precision`,
    such as to TF32. An autocast that a program itself enters stays: it is part of that program.
    """
    with ExitStack() as stack:
        for device in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        with suppress(RuntimeError):  # torch has no one answer where each backend has its own
            precision = torch.get_float32_matmul_precision()
            if precision != "highest":
                torch.set_float32_matmul_precision("highest")
                stack.callback(torch.set_float32_matmul_precision, precision)
        yield


@contextmanager
def evaluating(*programs: object) -> Iterator[None]:
    """Run the block in evaluation mode: no dropout, and batch statistics neither used nor learnt.

    Afterwards each module has the mode it had, and Pyro's store the parameters it had. Other
    threads wait, since they might use the same modules. Nothing is rounded: see `unrounded`.
    """
    with GLOBAL_STATE_LOCK, memory_kept(), nothing_registered(), unrounded():
        modes = [(module, module.training) for module in modules_of(*programs)]
        before = _evaluated[0]
        _evaluated[0] = _stamp(module for module, _ in modes)
        try:
            for module, _ in modes:
                module.training = False
            yield
        finally:
            _evaluated[0] = before
            for module, training in modes:
                module.training = training


_evaluated = [0]  # the state of the weights that are evaluated


def weights_stamp() -> int:
    """Return a number that differs once the weights have been trained, within `evaluating`."""
    return _evaluated[0]


def _stamp(modules: Iterable[nn.Module]) -> int:
    """Return a hash of which tensors the weights are, and of the first number in each.

    A step of training changes some of these. Their version counters do not tell: fused optimisers
    leave them as they are.
    """
    weights = [w for module in modules for w in module._parameters.values() if w is not None]
    return hash(tuple((id(w), *w.detach().reshape(-1)[:1].tolist()) for w in weights))


@contextmanager
def nothing_registered() -> Iterator[None]:
    """Remove from Pyro's store the parameters that the block adds, such as by `pyro.module`.

    The store leaves a weak reference on each parameter, and with it a module cannot be copied.
    """
    store = pyro.get_param_store()
    before = set(store.keys())
    try:
        yield
    finally:
        forget(*(store.keys() - before))


def forget(*names: str) -> None:
    """Remove parameters from Pyro's store, and its mark from the tensors."""
    store = pyro.get_param_store()
    for name in names:
        parameter = dict(store.named_parameters())[name]
        parameter.__dict__.pop("unconstrained", None)
        # the store notes one name of each tensor, which may have more, and deletes that one only
        store.set_state({"params": {name: parameter}, "constraints": {}})
        del store[name]
        others = {other: same for other, same in store.named_parameters() if same is parameter}
        store.set_state({"params": others, "constraints": {}})


def has_own_numbers(guide: object) -> bool:
    """Return whether the guide is one of Pyro's autoguides: numbers of its own for each image."""
    return any(isinstance(module, AutoGuide) for module in modules_of(guide))


def in_evaluation_mode(function: Function) -> Function:
    """Let `function` run in evaluation mode the programs among its arguments; see `evaluating`."""

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        with evaluating(*args, *kwargs.values()):
            return function(*args, **kwargs)

    return call
