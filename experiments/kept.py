"""Results of many long trainings, each kept on disk when it is known: a stopped script goes on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import InputError
from pyro_vae.storage.tensors import blaming, load_tensors, save_tensors
from pyro_vae.training.stopping import Interrupted

Kept = dict[str, Tensor]  # by name
Shapes = tuple[int, ...] | dict[str, tuple[int, ...]]  # of all tensors of a result, or of each


def made_once(
    folder: Path, settings: dict, resume: bool, names: set[str]
) -> Callable[[str, Callable[[], Kept], Shapes], Kept]:
    """Return a function of a result's name, how it is made, and its shapes: made once, then read.

    Each result is a file of `folder`, with the `settings` of its run. Without `resume` those of an
    earlier run are deleted, or a later --resume would take them.
    """
    if not resume:
        for path in folder.glob("*.training.pt"):
            path.unlink()

    def kept(name: str, make: Callable[[], Kept], shapes: Shapes) -> Kept:
        path = folder / f"{name}.training.pt"
        if resume and path.exists():
            return _read(path, settings, names, shapes)
        try:
            result = make()
        except Interrupted:
            text = "stopped; the results of finished trainings are kept: continue with --resume"
            raise Interrupted(text) from None
        save_tensors(path, result | {"settings": settings})
        return result

    return kept


def stacked(results: list[Kept]) -> dict[str, np.ndarray]:
    """Return the results of several trainings as one, `(trainings, ...)` each."""
    return {name: torch.stack([one[name] for one in results]).numpy() for name in results[0]}


def _read(path: Path, settings: dict, names: set[str], shapes: Shapes) -> Kept:
    """Read the result kept at `path`; raise InputError unless its run had these settings."""
    content = load_tensors(path, "results of a training", names | {"settings"}, "delete it")
    if content["settings"] != settings:
        raise InputError(f"{path} is of a run with other options: delete it, or leave out --resume")
    result = {name: content[name] for name in names}
    with blaming(path, "delete it"):
        expected = shapes if isinstance(shapes, dict) else dict.fromkeys(names, shapes)
        if any(tensor.shape != expected[n] or tensor.isnan().any() for n, tensor in result.items()):
            raise InputError("other results")
    return result
