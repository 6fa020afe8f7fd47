"""A mean-field guide with a few steps up each image's own ELBO."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_vae.errors import (
    InputError,
    check_counts,
    check_number,
    check_rows,
    checked,
    describe,
    one_line_refusals,
)
from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.likelihood.traces import Program, log_joint
from pyro_vae.models import Model


class SemiAmortised(MeanField):
    """Mean-field, with a few steps of gradient ascent on each image's own ELBO.

    The encoder's numbers are only the start. In training its weights get the gradient at the end
    of the steps, as if these had shifted the numbers by a constant (Kim et al. 2018,
    Semi-amortized variational autoencoders, differentiate through the steps instead).
    """

    @checked
    def __init__(self, model: Model, precision: str = "auto", steps: int = 8):
        check_counts(steps=steps)
        super().__init__(model, precision)
        self.target = (model,)  # in a tuple: the model's parameters are not the guide's
        self.steps = steps

    def q(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """q(z | x) at the end of each image's steps."""
        params = self.encoder(x, *labels)
        better = maximise_elbo(self.target[0], self, params, [x, *labels], self.steps)
        return self.distribution(params + (better - params).detach())


@checked
@one_line_refusals
def maximise_elbo(
    model: Program,
    guide: Amortised,
    params: Tensor,
    rows: list[Tensor],
    steps: int,
    draws: int = 4,
    learning_rate: float = 0.05,
) -> Tensor:
    """`params`, shape `(B, num_params)`, after steps of Adam up each image's own ELBO.

    The step size falls to zero on a cosine. `rows` are the model's arguments, `[x]` or `[x, y]`.
    """
    check_counts(steps=steps, draws=draws)
    check_number("learning_rate", learning_rate, 1e-9, 1e3)
    check_rows(*rows)
    if params.dim() != 2 or len(params) != len(rows[0]) or not params.is_floating_point():
        raise InputError(
            f"params must be floats ({len(rows[0])}, num_params) as rows, not {describe(params)}"
        )
    if not params.isfinite().all():
        raise InputError("params must be finite")

    def elbo(params: Tensor) -> Tensor:
        q = guide.distribution(params)
        # expanded, as a plate would: Pyro's MixtureOfDiagNormals draws from the wrong image's
        # components where it is asked for a sample shape and has a batch shape
        z = q.expand((draws, len(params))).rsample()
        return (log_joint(model, rows, {"z": z}) - q.log_prob(z)).mean(0)

    return _adam(elbo, params, steps, learning_rate)


def _adam(
    objective: Callable[[Tensor], Tensor], params: Tensor, steps: int, learning_rate: float
) -> Tensor:
    """`params`, `(B, num_params)`, after steps of Adam up each image's own objective, `(B,)`.

    The step size falls to zero on a cosine. An image whose gradient is not finite, as that of a
    collapsed mixture, stays where it is.
    """
    params = params.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([params], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with torch.enable_grad(), poutine.block():  # what is sampled here is no site of the guide
        for _ in range(steps):
            (gradient,) = torch.autograd.grad(-objective(params).sum(), [params])
            finite = gradient.isfinite().all(-1, keepdim=True)
            params.grad = torch.where(finite, gradient, 0.0)
            optimiser.step()
            schedule.step()
    return params.detach()
