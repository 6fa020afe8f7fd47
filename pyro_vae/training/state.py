"""What is kept of a training, so that one that is resumed ends in the same bits."""

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_vae import parallel
from pyro_vae.errors import InputError, warn_caller
from pyro_vae.storage.tensors import (
    blaming,
    check_replaceable,
    load_tensors,
    load_weights,
    pack,
    save_tensors,
)
from pyro_vae.training.optimiser import SingleOptimizer
from pyro_vae.training.settings import differences, moves

KEYS = {"model", "guide", "optimiser", "history", "settings"}  # since the first release
VERSIONS = {"Python": platform.python_version(), "torch": torch.__version__.partition("+")[0]}


@dataclass
class Position:
    """How far a training has come."""

    epoch: int = 0  # epochs that are finished
    step: int = 0  # steps of the next epoch that are taken
    total: float = 0.0  # the sum of their losses, nats
    ended: bool = False  # by `on_epoch`

    @classmethod
    def from_stored(cls, stored: dict) -> "Position":
        """Read a stored position; raise an error unless it has these parts, of these types."""
        position = cls(**stored)
        types = [type(value) for value in asdict(position).values()]
        if stored.keys() != asdict(position).keys() or types != [int, int, float, bool]:
            raise ValueError
        return position


class TrainingState:
    """The state of a training, kept at `path`; with None nothing is kept.

    Args:
        modules: "model" and "guide", those of the two that are modules.
        settings: what must be the same when the training is resumed.
    """

    def __init__(
        self,
        path: Path | None,
        modules: dict[str, nn.Module],
        optimiser: SingleOptimizer,
        shuffle: torch.Generator,
        settings: dict,
    ):
        self.path, self.modules, self.settings = path, modules, settings
        self.optimiser, self.shuffle = optimiser, shuffle
        self.kept = False  # whether what is at `path` is of this run
        if path is not None and parallel.by_first(lambda: os.path.isdir(path)):
            raise InputError(f"state_path {path} is a folder: name a file")
        if path is not None and len(modules) < 2:
            raise InputError(
                "state_path: only modules can be saved; make model and guide torch.nn.Modules, or "
                "train without state_path"
            )
        if path is not None:
            pack(settings)

    def begin(self) -> tuple[Position, list[dict[str, float]]]:
        """Return the position and the history of a new training.

        Raises InputError if there is a file at `path` that is no training state.
        """
        path = self.path
        if path is not None:
            parallel.by_first(lambda: check_replaceable(path, "a training state", KEYS))
        return Position(), []

    def resume(self, epochs: int) -> tuple[Position, list[dict[str, float]]]:
        """Take up what is at `path`, if there is anything; return the position and the history.

        Of several processes the first reads it and tells the others.

        Warns, in one line, where a class has moved between a notebook and a file, and where Python
        or torch was another. Raises InputError if the state is damaged, of another run or of an
        earlier release, or beyond `epochs`.
        """
        stored = None if self.path is None else parallel.by_first(self._read)
        if stored is None:
            return Position(), []
        with blaming(self.path):
            self._check_settings(stored["settings"], stored.get("versions"))
            history, position = stored["history"], Position.from_stored(stored["position"])
            if len(history) > epochs:
                raise InputError(
                    f"{self.path} has already seen {len(history)} epochs, and {epochs} are asked: "
                    "raise epochs, or delete it to train afresh"
                )
            if position.epoch != len(history) or position.step < 0:
                raise ValueError
            for name, module in self.modules.items():
                load_weights(module, stored[name], self.path)
            if not isinstance(stored["optimiser"], dict):
                raise TypeError
            self.optimiser.set_state(stored["optimiser"])
            self.shuffle.set_state(stored["shuffle_generator"])
        self.kept = True
        return position, history

    def _read(self) -> dict | None:
        """Return what is at `path`, None if nothing is."""
        if not os.path.exists(self.path):
            return None
        remedy = "name another file, or delete it to train afresh"
        return load_tensors(self.path, "a training state", KEYS, remedy)

    def _check_settings(self, stored: dict, versions: dict | None) -> None:
        """Raise InputError unless the stored settings are those of this run; warn of what moved."""
        if versions is None:
            raise InputError(
                f"{self.path} was written by pyro_vae 0.1, and 0.2 cannot resume that: end the "
                "training with 0.1, or delete the file to train afresh"
            )
        other = list(differences(stored, self.settings))
        if other:
            raise InputError(
                f"{self.path} was trained with {'; '.join(other)}: resume with the same options, "
                "or delete it to train afresh"
            )
        notes = [
            f"{there} is taken for the same class as {here}"
            for there, here in moves(stored, self.settings).items()
        ]
        if versions != VERSIONS:
            there, here = (
                ", ".join(f"{name} {version}" for name, version in each.items())
                for each in (versions, VERSIONS)
            )
            notes.append(
                f"it was trained with {there} and goes on with {here}: the weights may differ "
                "in their last digits from those of an unchanged run"
            )
        if notes and parallel.rank() == 0:
            warn_caller(f"{self.path}: {'; '.join(notes)}")

    def save(self, position: Position, history: list[dict], shuffle_state: Tensor) -> None:
        """Write all of it, whole or not at all; of several processes the first does.

        `shuffle_state` is that of the generator before it has shuffled the epoch at hand.
        """
        self.kept = self.path is not None
        if self.path is None or parallel.rank() > 0:
            return
        weights = {name: module.state_dict() for name, module in self.modules.items()}
        save_tensors(
            self.path,
            weights
            | {
                "optimiser": self.optimiser.get_state(),
                "shuffle_generator": shuffle_state,
                "position": asdict(position),
                "history": history,
                "settings": self.settings,
                "versions": VERSIONS,
            },
        )
