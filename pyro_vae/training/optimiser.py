"""One torch optimiser over all parameters."""

from collections.abc import Callable

import pyro
import torch
from torch import Tensor

from pyro_vae import parallel
from pyro_vae.errors import InputError
from pyro_vae.training.stopping import TrainingError


class SingleOptimizer(pyro.optim.PyroOptim):
    """One torch optimiser over all parameters, where Pyro makes one for each tensor.

    The updates are the same; one fused pass over all tensors is faster, and its state is one state
    dict. The parameters are ordered by their names, since SVI passes them as an unordered set.
    """

    def __init__(
        self,
        optimiser: Callable[..., torch.optim.Optimizer],
        learning_rate: float,
        **settings: object,
    ):
        super().__init__(optimiser, {"lr": learning_rate, **settings})
        self.learning_rate = learning_rate  # of the next step
        self.optimiser: torch.optim.Optimizer | None = None
        self.watched: list[Tensor] = []  # every weight that the programs use
        self._state: dict | None = None

    def __call__(self, params: set[Tensor], *args: object, **kwargs: object) -> None:
        if self.optimiser is None:
            if not params:
                raise InputError(
                    "nothing to train: no weight of model or guide has requires_grad=True; a "
                    "function names what it trains by pyro.module or pyro.param"
                )
            trained = {id(parameter) for parameter in params}
            lost = [w for w in self.watched if w.grad is not None and id(w) not in trained]
            if lost:
                raise InputError(
                    f"{len(lost)} tensors of weights have a gradient and would not be trained: "
                    "name their module in the program by pyro.module, or freeze it by "
                    "requires_grad_(False)"
                )
            ordered = sorted(params, key=pyro.get_param_store().param_name)
            self.optimiser = self.pt_optim_constructor(ordered, **self.pt_optim_args)
            if self._state is not None:
                self.optimiser.load_state_dict(self._state)
        elif len(params) != sum(len(group["params"]) for group in self.optimiser.param_groups):
            raise TrainingError(
                "the model or the guide has changed its parameters since the first step: "
                "create them all before training"
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate
            for parameter in group["params"]:
                if parameter.grad is None:  # no part of the batch, of this process's, reached it
                    parameter.grad = torch.zeros_like(parameter)
            parallel.all_reduce_sum(parameter.grad for parameter in group["params"])
        self.optimiser.step(*args, **kwargs)
        # SVI would fill them with zeros, for the next step to add to: two passes over all weights
        self.optimiser.zero_grad(set_to_none=True)

    def get_state(self) -> dict:
        """The optimiser's state, as a state dict; empty before the first step."""
        return self.optimiser.state_dict() if self.optimiser is not None else {}

    def set_state(self, state_dict: dict) -> None:
        """Take up `state_dict` at the first step, when the parameters are known."""
        self._state = state_dict or None
