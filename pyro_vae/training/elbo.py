"""The bound of a batch whose parts have random numbers of their own."""

import torch
from pyro.infer import ELBO
from torch import Tensor

from pyro_vae import parallel
from pyro_vae.errors import InputError
from pyro_vae.networks.precision import to_float64_device
from pyro_vae.programs import Program
from pyro_vae.seeds import derive_seed, set_seed
from pyro_vae.training.stopping import StopRequest


class PartitionedELBO:
    """`elbo` of a batch cut into `batch_parts` parts, which the processes of a group share.

    The loss is the sum over all parts, and so is the gradient once `SingleOptimizer` has added it
    up. The exchange of the losses also tells every process whether one was asked to stop.
    """

    def __init__(self, elbo: ELBO, batch_parts: int, stop: StopRequest):
        self.elbo, self.batch_parts, self.stop = elbo, batch_parts, stop
        self.seeds: tuple[int, ...] = ()  # of the step; set before each
        self.kl_weight = 1.0  # likewise

    def loss_and_grads(self, model: Program, guide: Program, *batch: Tensor) -> float:
        """Return minus the ELBO of the batch, nats; the gradients are of this process's parts."""
        parts = list(zip(*(rows.tensor_split(self.batch_parts) for rows in batch), strict=True))
        loss, stops = to_float64_device(batch[0][:1]).new_zeros(2, 1, dtype=torch.float64)
        for part in parallel.parts_of_this_rank(self.batch_parts):
            set_seed(derive_seed(*self.seeds, part), batch[0])
            term = self.elbo.loss_and_grads(model, guide, *parts[part])
            if isinstance(term, tuple):
                raise InputError(
                    f"elbo must give one loss to minimise, and {type(self.elbo).__name__} does "
                    "not: use Trace_ELBO() or pyro_vae.objective"
                )
            loss += term
        stops += self.stop.asked.is_set()
        parallel.all_reduce_sum([loss, stops])
        self.stop.agreed = bool(stops)
        return float(loss)
