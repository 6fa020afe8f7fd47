"""Checks that stop a diverging training at once."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from pyro_vae.complaints import refused_by_distribution
from pyro_vae.training.state import Position, TrainingState
from pyro_vae.training.stopping import TrainingError


class Divergence:
    """Whether training has diverged: a TrainingError says where, and what is left on disk."""

    def __init__(self, position: Position, steps: int, learning_rate: float, state: TrainingState):
        self.position, self.steps, self.learning_rate = position, steps, learning_rate
        self.state = state

    def error(self, what: str) -> TrainingError:
        """Return the error that says `what` has happened."""
        epoch, step = self.position.epoch + 1, self.position.step + 1
        where = f"in epoch {epoch}, step {step}" if step <= self.steps else f"after epoch {epoch}"
        kept = self.state.kept
        left = f"the last good state is in {self.state.path}" if kept else "nothing is saved"
        rate = f"{self.learning_rate:g}"
        return TrainingError(f"{what} {where}: lower the learning rate ({rate}); {left}")

    @contextmanager
    def distributions(self) -> Iterator[None]:
        """Catch Pyro's refusal of a distribution's parameters, before there is a loss."""
        try:
            yield
        except ValueError as error:
            if "Expected parameter" not in refused_by_distribution(error):
                raise
            raise self.error("a distribution got parameters that are NaN or invalid") from error

    def loss(self, loss: float) -> None:
        """Raise TrainingError unless the loss of a step is finite."""
        if not math.isfinite(loss):
            raise self.error(f"the loss became {loss}")

    def weights(self, modules: dict[str, nn.Module], elbo: float) -> None:
        """Raise TrainingError unless all weights, and the ELBO of the epoch, are finite."""
        if not (all_finite(modules) and math.isfinite(elbo)):
            raise self.error("the weights or the ELBO became NaN or infinite")


def all_finite(modules: dict[str, nn.Module]) -> bool:
    """Return whether every parameter of the modules is a number."""
    return all(bool(w.isfinite().all()) for m in modules.values() for w in m.parameters())
