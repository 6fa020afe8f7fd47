"""How much a guide uses each latent dimension."""

from typing import NamedTuple

from torch import Tensor

from pyro_vae.errors import InputError, checked, describe

# variance of the posterior mean above which a dimension is active (Burda et al. 2016, section 5.2)
ACTIVE_VARIANCE = 0.01


class UnitUse(NamedTuple):
    """The use of each of d latent dimensions, the most used first."""

    order: list[int]  # the dimensions, by falling activity
    activity: list[float]  # variance of the posterior mean over the images
    kl: list[float]  # mean KL from the prior, nats per image
    active: int  # dimensions with an activity above ACTIVE_VARIANCE


@checked
def active_units(mean: Tensor, deviation: Tensor) -> UnitUse:
    """Measure the use of each dimension from a mean-field guide's moments, `(B, d)` each."""
    fit = mean.dim() == 2 and len(mean) > 1 and mean.shape == deviation.shape
    real = mean.is_floating_point() and deviation.is_floating_point()
    if not (fit and real and mean.isfinite().all() and (deviation > 0).all()):
        raise InputError(
            "mean and deviation must be finite floats (B, d), B >= 2, deviations > 0, "
            f"not {describe(mean)} and {describe(deviation)}"
        )
    kl = (0.5 * (mean**2 + deviation**2 - 1) - deviation.log()).mean(0)
    activity, order = mean.var(0).sort(descending=True)
    active = int((activity > ACTIVE_VARIANCE).sum())
    return UnitUse(order.tolist(), activity.tolist(), kl[order].tolist(), active)
