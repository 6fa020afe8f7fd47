"""What makes a guide unfit to score a model: other latents than the model's, or no density."""

from collections.abc import Callable, Collection

import pyro.distributions as dist
import torch

from pyro_vae.errors import InputError
from pyro_vae.likelihood.sites import Site, innermost


def check_names(of_guide: Collection[str], of_model: Collection[str]) -> None:
    """Raise InputError unless guide and model have the same latent sites."""
    for name in of_model:
        if name not in of_guide:
            raise InputError(
                f"the guide misses the model's latent site {name!r}: sample it there, by that "
                f"name; the guide samples {sorted(of_guide)}"
            )
    for name in of_guide:
        if name not in of_model:
            raise InputError(
                f"the guide samples {name!r}, which is no site of the model: remove it, rename "
                "it, or mark it by infer={'is_auxiliary': True}"
            )


def check_densities(sites: list[Site], two_draws: Callable[[], list[Site]]) -> None:
    """Raise InputError where a guide's latents have no density, so that no weight can be computed.

    A point (Delta) has none, unless it is computed from auxiliary sites by a change of variables.
    These then draw as many numbers as the latents have, or fewer for a simplex and its like. A
    point that is the same in two draws is computed from none: `two_draws` gives the sites of such,
    and is asked only where `sites` are of one.
    """
    points = [site.name for site in sites if is_point(site.fn)]
    numbers = sum(site.fn.event_shape.numel() for site in sites if is_point(site.fn))
    auxiliary = [site.name for site in sites if site.auxiliary and not is_point(site.fn)]
    drawn = sum(site.fn.event_shape.numel() for site in sites if site.name in auxiliary)
    fixed = points
    if points and 0 < drawn < numbers:
        several = sites if len(sites[0].value) > 1 else two_draws()
        values = {site.name: site.value for site in several}
        fixed = [name for name in points if torch.equal(values[name][0], values[name][1])]
    if fixed and drawn < numbers:
        raise InputError(
            f"the guide puts {fixed} at a point (Delta), where it has no density: sample it, by "
            "AutoNormal in place of AutoDelta, or use Refined(model, guide), which starts there"
        )
    if drawn > numbers:
        raise InputError(
            f"the guide draws {drawn} numbers an image at its auxiliary sites {auxiliary} and "
            f"computes {numbers} from them, at Delta sites {points}: q(z | x) is then not known; "
            "make it a change of variables, or sample them in the model too and not as auxiliary"
        )


def is_point(fn: dist.TorchDistribution) -> bool:
    """Return whether a distribution is a Delta, whatever it is wrapped in."""
    return isinstance(innermost(fn), dist.Delta)


def check_shape(name: str, given: torch.Size, wanted: torch.Size) -> None:
    """Raise InputError where a latent of an image has another shape in the guide than in the model.

    One number would otherwise pass for several, by broadcasting, and give a wrong density.
    """
    if given != wanted:
        raise InputError(
            f"latent {name!r} of an image has shape {tuple(given)} in the guide and "
            f"{tuple(wanted)} in the model: sample it in both with the same .to_event()"
        )
