"""Results of many long trainings, each kept on disk when it is known: a stopped script goes on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import InputError
from pyro_vae.storage.tensors import blaming, load_tensors, save_tensors
from pyro_vae.training.stopping import Interrupted

Kept = dict[str, Tensor]  # by name; all tensors of a result have one shape


def made_once(
    folder: Path, settings: dict, resume: bool, names: set[str]
) -> Callable[[str, Callable[[], Kept], tuple[int, ...]], Kept]:
    """Return a function of a result's name, how it is made, and its shape: made once, then read.

    Each result is a file of `folder`, with the `settings` of its run. Without `resume` those of an
    earlier run are deleted, or a later --resume would take them.
    """
    if not resume:
        for path in folder.glob("*.training.pt"):
            path.unlink()

    def kept(name: str, make: Callable[[], Kept], shape: tuple[int, ...]) -> Kept:
        path = folder / f"{name}.training.pt"
        if resume and path.exists():
            return _read(path, settings, names, shape)
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


def _read(path: Path, settings: dict, names: set[str], shape: tuple[int, ...]) -> Kept:
    """Read the result kept at `path`; raise InputError unless its run had these settings."""
    content = load_tensors(path, "results of a training", names | {"settings"}, "delete it")
    if content["settings"] != settings:
        raise InputError(f"{path} is of a run with other options: delete it, or leave out --resume")
    result = {name: content[name] for name in names}
    with blaming(path, "delete it"):
        if any(tensor.shape != shape or tensor.isnan().any() for tensor in result.values()):
            raise InputError("other results")
    return result
