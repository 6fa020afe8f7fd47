"""What must be the same when a training is resumed, and in words what is not."""

from collections.abc import Callable, Iterator

from pyro.infer import ELBO
from torch import nn

from pyro_vae.errors import InputError, describe
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.training.batches import Group

DATA = {"train": "training images", "test": "test images"}
PROGRAMS = {"model_kind": "model", "guide_kind": "guide"}
UNSET = "unset"


def settings_of(
    options: dict,
    modules: dict[str, nn.Module],
    data: dict[str, list[Group]],
    elbo: ELBO,
    transform: Callable | None,
    must_match: dict[str, object],
) -> dict:
    """Return what must be the same when a training is resumed: options, data, bound, classes."""
    settings = options | {"elbo": _described(elbo)}
    for name, groups in data.items():
        tensors = [tensor for group in groups for tensor in group]
        digest = fingerprint(*(groups[0] if len(groups) == 1 else groups))
        settings[name] = [", ".join(map(describe, tensors)), digest]
    for name, module in modules.items():  # by classes: attributes may change as it is trained
        settings[f"{name}_kind"] = {
            part_name: [type(part).__module__, type(part).__qualname__]
            for part_name, part in module.named_modules()
        }
    if transform is not None:
        settings["transform"] = name_of_function(transform)
    for name in must_match:
        if name in settings:
            raise InputError(f"must_match must not hold {name!r}: that is compared in any case")
    return settings | must_match


def name_of_function(function: Callable) -> str:
    """Return a function's name; of what holds settings too, its class's and a digest of all."""
    if hasattr(function, "__qualname__") and not hasattr(function, "__func__"):
        return f"{function.__module__}.{function.__qualname__}"
    return f"{type(function).__qualname__} {fingerprint(function)}"


def differences(stored: dict, here: dict) -> Iterator[str]:
    """Say in words what of the settings `stored` with a training is otherwise `here`."""
    for name in sorted(stored.keys() | here.keys()):
        there, ours = stored.get(name, UNSET), here.get(name, UNSET)
        if there == ours:
            continue
        if name in PROGRAMS:
            changed = [pair for pair in _classes(name, there, ours) if not _has_moved(*pair[1:])]
            for part, a, b in changed[:1]:
                moved = f" (import it from {a[0]})" if a and b and a[1] == b[1] else ""
                yield f"{part} {_name(a)}, not {_name(b)}{moved}"
        elif name not in DATA:
            yield f"{name}={there}, not {ours}"
        elif UNSET not in (there, ours) and there[0] == ours[0]:
            yield f"other {DATA[name]}"
        else:
            shapes = [UNSET if value == UNSET else value[0] for value in (there, ours)]
            yield f"{DATA[name]} {shapes[0]}, not {shapes[1]}"


def moves(stored: dict, here: dict) -> dict[str, str]:
    """Return the classes that have moved since the settings were `stored`: old names to new.

    A class that a notebook or script defines for itself is called `__main__.C`. It is taken for the
    class C of a file: what else a class holds is not compared in any case, and its weights are.
    """
    return {
        _name(there): _name(ours)
        for name in PROGRAMS
        for _, there, ours in _classes(name, stored[name], here[name])
        if _has_moved(there, ours)
    }


def _classes(name: str, there: dict, here: dict) -> Iterator[tuple[str, list, list]]:
    """Yield the parts of model or guide whose classes differ, and both classes; None is absent."""
    for part in there | here:
        if there.get(part) != here.get(part):
            yield f"{PROGRAMS[name]}{part and f'.{part}'}", there.get(part), here.get(part)


def _has_moved(there: list | None, here: list | None) -> bool:
    """Return whether a class is of the same name, and on one side of a notebook or script."""
    return bool(there and here and there[1] == here[1] and "__main__" in (there[0], here[0]))


def _name(kind: list | None) -> str:
    return ".".join(kind) if kind else "absent"


def _described(elbo: ELBO) -> str:
    """Describe a bound by its class and settings, without the depth of plates that it finds out."""
    settings = {k: v for k, v in vars(elbo).items() if k[0] != "_" and k != "max_plate_nesting"}
    plain = bool | int | float | str | None
    written = ", ".join(
        f"{name}={value if isinstance(value, plain) else fingerprint(value)}"
        for name, value in sorted(settings.items())
    )
    return f"{type(elbo).__module__}.{type(elbo).__qualname__}({written})"
