"""Images between two images, along a line between their latents."""

import torch
from torch import Tensor

from pyro_vae.analysis.rendering import latent_sites
from pyro_vae.analysis.sampling import Latents, decode, decode_style, posterior_moments
from pyro_vae.errors import InputError
from pyro_vae.likelihood.coordinates import is_discrete
from pyro_vae.models import Model
from pyro_vae.programs import Program, evaluating


def interpolate(model: Program, guide: Program, steps: int, x: Tensor, *labels: Tensor) -> Tensor:
    """Return the mean images from the first half of `x`, `(2 B, ...)`, to the second.

    They are `(steps, B, ...)`. The line joins the guide's means; it is straight in the style of a
    `Model`, and in the latents of any other program.
    """
    mean, _ = posterior_moments(guide, x, *labels)
    ends = [y.chunk(2)[0] for y in labels]
    if isinstance(model, Model):
        with torch.no_grad(), evaluating(model):
            style = model.prior.style(mean.to(x), *labels)
        line = _line(style, steps).flatten(0, 1)
        images = decode_style(model, line, *(y.repeat(steps) for y in ends))
        return images.unflatten(0, (steps, len(x) // 2))
    with evaluating(model):
        sites = latent_sites(model, [x, *labels])
    for site in sites:
        if is_discrete(site):
            raise InputError(
                f"latent {site.name!r} is discrete: there is no line between its values; decode "
                "them one by one"
            )
    return decode(model, _line(mean, steps), *ends, like=x).to(x.device)


def _line(ends: Latents, steps: int) -> Latents:
    """Return the points from the first half of the rows to the second: `(steps, B, ...)`."""
    if isinstance(ends, dict):
        return {name: _line(values, steps) for name, values in ends.items()}
    start, end = ends.chunk(2)
    t = torch.linspace(0, 1, steps, dtype=ends.dtype, device=ends.device)
    return torch.lerp(start, end, t.view(-1, *[1] * ends.dim()))
