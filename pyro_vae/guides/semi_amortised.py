"""A mean-field guide that takes a few gradient steps up each image's own ELBO."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_vae.complaints import one_line_refusals
from pyro_vae.errors import InputError, check_counts, check_number, check_rows, checked, describe
from pyro_vae.guides.amortised import Amortised, UsesModel, refuse_jit
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.likelihood.traces import log_joint
from pyro_vae.models import Model
from pyro_vae.programs import Program


class SemiAmortised(UsesModel, MeanField):
    """Mean-field, with `steps` gradient steps up each image's own ELBO.

    The encoder gives only the start. It is trained with the gradient at the end of the steps
    (straight-through). Kim et al. (2018), Semi-amortized variational autoencoders, differentiate
    through the steps instead.

    >>> import torch
    >>> from pyro_vae import SemiAmortised, Vae
    >>> guide = SemiAmortised(Vae.build(2, architecture="dense").model, steps=2)
    >>> guide.q(torch.zeros(5, 1, 28, 28)).batch_shape
    torch.Size([5])
    """

    @checked
    def __init__(self, model: Model, precision: str = "auto", steps: int = 8):
        check_counts(steps=steps)
        super().__init__(model, precision)
        self.use(model)
        self.steps = steps

    takes_samples = True  # its steps draw random numbers that are not among its sites

    def q(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """Return q(z | x) at the end of each image's steps."""
        refuse_jit(self)  # which records no gradient within a program
        params = self.encoder(x, *labels)
        end = maximise_elbo(self.model, self, params, [x, *labels], self.steps)
        return self.distribution(params + (end - params).detach())


@checked
@one_line_refusals
def maximise_elbo(
    model: Program,
    guide: Amortised,
    params: Tensor,
    batch: list[Tensor],
    steps: int,
    draws: int = 4,
    learning_rate: float = 0.05,
) -> Tensor:
    """Return `params`, `(B, num_params)`, after steps of Adam up each image's own ELBO.

    Each step estimates the ELBO from `draws` samples. The step size falls to zero on a cosine.
    `batch` holds the model's arguments, `[x]` or `[x, y]`.
    """
    check_counts(steps=steps, draws=draws)
    check_number("learning_rate", learning_rate, 1e-9, 1e3)
    check_rows(*batch)
    if params.dim() != 2 or len(params) != len(batch[0]) or not params.is_floating_point():
        raise InputError(
            f"params must be floats ({len(batch[0])}, num_params), not {describe(params)}"
        )
    if not params.isfinite().all():
        raise InputError("params must be finite")

    def elbo(params: Tensor) -> Tensor:
        q = guide.distribution(params)
        # expanded, as a plate would: Pyro's MixtureOfDiagNormals draws from the wrong image's
        # components where it is asked for a sample shape and has a batch shape
        z = q.expand((draws, len(params))).rsample()
        return (log_joint(model, batch, {"z": z}) - q.log_prob(z)).mean(0)

    return adam_ascent(elbo, params, steps, learning_rate)


def adam_ascent(
    objective: Callable[[Tensor], Tensor], params: Tensor, steps: int, learning_rate: float
) -> Tensor:
    """Return `params`, `(B, num_params)`, after steps of Adam up `objective`, `(B,)`.

    Each image climbs its own entry of the objective. The step size falls to zero on a cosine. An
    image whose gradient is not finite, such as that of a collapsed mixture, stays where it is.
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
