"""The bound of a batch that is cut into parts."""

import threading

import torch
from pyro.infer import ELBO
from torch import Tensor

from pyro_vae import parallel
from pyro_vae.errors import (
    InputError,
)
from pyro_vae.likelihood.traces import Program
from pyro_vae.seeds import derive_seed, set_seed
from pyro_vae.storage.fingerprint import fingerprint


class ShardedELBO:
    """`elbo` of a batch cut into `batch_parts` parts, each with random numbers of its own.

    The processes of a group share the parts; the loss is the sum over all, and so is the gradient
    once `SingleOptimizer` has added it up.
    """

    def __init__(self, elbo: ELBO, batch_parts: int = 1):
        self.elbo, self.batch_parts = elbo, batch_parts
        self.seeds: tuple[int, ...] = ()  # of the step; set before each
        self.stop = threading.Event()  # set: this process was asked to stop
        self.stopping = False  # a process was, before the last step

    def agree_to_stop(self, device: torch.device) -> bool:
        """Whether any process was asked to stop: then all do."""
        stops = torch.full((1,), float(self.stop.is_set()), device=device)
        parallel.all_reduce_sum([stops])
        return bool(stops)

    def loss_and_grads(self, model: Program, guide: Program, *rows: Tensor) -> float:
        """Minus the ELBO of the batch, nats; the gradients are those of this process's parts."""
        parts = list(zip(*(row.tensor_split(self.batch_parts) for row in rows), strict=True))
        # of the batch, and how many processes were asked to stop: they stop together
        loss, stops = torch.zeros(2, 1, dtype=torch.float64, device=rows[0].device)
        for shard in parallel.parts_of_this_rank(self.batch_parts):
            set_seed(derive_seed(*self.seeds, shard), rows[0])
            one = self.elbo.loss_and_grads(model, guide, *parts[shard])
            if isinstance(one, tuple):
                raise InputError(
                    f"elbo must give one loss to minimise, and {type(self.elbo).__name__} does not"
                )
            loss += one
        stops += self.stop.is_set()
        parallel.all_reduce_sum([loss, stops])
        self.stopping = bool(stops)
        return float(loss)


def _described(elbo: ELBO) -> str:
    """A bound by its class and settings; but for how deep plates lie, which it finds out itself."""
    settings = {k: v for k, v in vars(elbo).items() if k[0] != "_" and k != "max_plate_nesting"}
    plain = bool | int | float | str | None
    written = ", ".join(
        f"{name}={value if isinstance(value, plain) else fingerprint(value)}"
        for name, value in sorted(settings.items())
    )
    return f"{type(elbo).__module__}.{type(elbo).__qualname__}({written})"
