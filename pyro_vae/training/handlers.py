"""How a program is run in training: registered, in nats per image, its KL term weighted."""

from collections.abc import Callable

import pyro
from pyro.infer import (
    ELBO,
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
)
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from pyro.util import ignore_jit_warnings
from torch import Tensor

from pyro_vae.errors import InputError, check_number
from pyro_vae.programs import Program, own_module
from pyro_vae.training.elbo import PartitionedELBO

COMPILED = JitTrace_ELBO | JitTraceEnum_ELBO | JitTraceGraph_ELBO | JitTraceMeanField_ELBO


def as_trained(program: Program, name: str, bound: PartitionedELBO) -> Program:
    """Return `program` as `bound` trains it, with its weight of the KL term.

    `name`, "model" or "guide", is that of a module in Pyro's store.
    """
    module = own_module(program)
    # frozen, Pyro would warn of each parameter at each step
    trained = module is not None and any(w.requires_grad for w in module.parameters())

    def run(*batch: Tensor) -> object:
        if trained:  # or SVI trains nothing, silently; a function registers its own
            pyro.module(name, module)
        with PlainPlates(), KlWeight(bound.kl_weight, observed=name == "guide"):
            return program(*batch)

    return run


class PlainPlates(Messenger):
    """Undo the factor N / b that a plate over b of N images puts on log probabilities.

    `pyro.plate("data", N, subsample=x)` makes the loss of a batch that of all N images. Here every
    loss is of the images of its batch. What `poutine.scale` does stays.
    """

    @ignore_jit_warnings()  # sizes are traced too
    def _pyro_sample(self, msg: dict) -> None:
        for frame in msg["cond_indep_stack"]:
            # traced by torch.jit the sizes are tensors, and no branch may depend on their values
            if isinstance(frame.size, Tensor) or frame.full_size != frame.size:
                msg["scale"] = msg["scale"] * frame.size / frame.full_size


class KlWeight(Messenger):
    """Weight the terms that make up KL(q(z | x) || p(z)): log q and log p of the latents.

        E_q log p(x | z) - weight KL(q(z | x) || p(z))

    Args:
        weight: on each site that is neither observed nor a plate's subsampling.
        observed: weight what is observed too, as a guide may by `pyro.factor`, a part of log q.
    """

    def __init__(self, weight: float, observed: bool):
        super().__init__()
        self.weight, self.observed = weight, observed

    def _pyro_sample(self, msg: dict) -> None:
        if (self.observed or not msg["is_observed"]) and not site_is_subsample(msg):
            msg["scale"] = msg["scale"] * self.weight


def check_kl_weight(kl_weight: float | Callable[[int], float], elbo: ELBO) -> None:
    """Raise InputError for a weight that no training can have."""
    if not callable(kl_weight):
        check_number("kl_weight", kl_weight, 0)
    elif isinstance(elbo, COMPILED):
        raise InputError(
            f"kl_weight must be a number with {type(elbo).__name__}, which is compiled with the "
            "weight of its first step: use the bound without Jit"
        )


def weight_at(kl_weight: float | Callable[[int], float], step: int) -> float:
    """Return the weight of the KL term at a step, from 0; InputError unless it is one."""
    if not callable(kl_weight):
        return kl_weight
    weight = kl_weight(step)
    check_number(f"kl_weight, at step {step},", weight, 0)
    return float(weight)
