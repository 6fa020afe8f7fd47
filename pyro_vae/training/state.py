"""What is kept of a training, so that one that is resumed ends in the same bits."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from pyro_vae import parallel
from pyro_vae.errors import InputError
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.tensors import blaming, load_tensors, load_weights, pack, save_tensors
from pyro_vae.training.batches import Group
from pyro_vae.training.optimiser import SingleOptimizer

KEYS = {
    "model",
    "guide",
    "optimiser",
    "shuffle_generator",
    "position",
    "history",
    "settings",
}


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
        if path is not None and os.path.isdir(path):
            raise InputError(f"state_path {path} is a folder: name a file")
        if path is not None and len(modules) < 2:
            raise InputError(
                "state_path: only modules can be saved; make model and guide torch.nn.Modules, or "
                "train without state_path"
            )
        if path is not None:
            pack(settings)

    def resume(self, epochs: int) -> tuple[Position, list[dict[str, float]]]:
        """Take up what is at `path`, if there is anything; return the position and the history.

        Raises InputError if it is damaged, of another run, or beyond `epochs`.
        """
        if self.path is None or not os.path.exists(self.path):
            return Position(), []
        stored = load_tensors(self.path, "a training state", KEYS)
        with blaming(self.path):
            self._check_settings(stored["settings"])
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

    def _check_settings(self, stored: dict) -> None:
        """Raise InputError unless the stored settings are those of this run."""
        other = [
            f"{name}={stored.get(name, 'unset')}, not {self.settings.get(name, 'unset')}"
            for name in sorted(stored.keys() | self.settings.keys())
            if stored.get(name, "unset") != self.settings.get(name, "unset")
        ]
        if other:
            raise InputError(
                f"{self.path} was trained with {'; '.join(other)}: resume with the same options, "
                "or delete it to train afresh"
            )

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
            },
        )


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
        settings[name] = fingerprint(*(groups[0] if len(groups) == 1 else groups))
    for name, module in modules.items():  # by classes: attributes may change as it is trained
        kinds = [[part_name, type(part)] for part_name, part in module.named_modules()]
        settings[f"{name}_kind"] = fingerprint(kinds)
    if transform is not None:
        settings["transform"] = fingerprint(transform)
    for name in must_match:
        if name in settings:
            raise InputError(f"must_match must not hold {name!r}: that is compared in any case")
    return settings | must_match


def _described(elbo: ELBO) -> str:
    """Describe a bound by its class and settings, without the depth of plates that it finds out."""
    settings = {k: v for k, v in vars(elbo).items() if k[0] != "_" and k != "max_plate_nesting"}
    plain = bool | int | float | str | None
    written = ", ".join(
        f"{name}={value if isinstance(value, plain) else fingerprint(value)}"
        for name, value in sorted(settings.items())
    )
    return f"{type(elbo).__module__}.{type(elbo).__qualname__}({written})"
