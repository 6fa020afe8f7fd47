"""One run of a program: its random sites, each with one log density for each image.

A program is a Pyro model or guide, called on a batch: `[x]`, or `[x, y]` with labels. Densities
are those of the program without `poutine.scale` and without the factor of a subsampled plate.
"""

from typing import NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_vae.errors import InputError
from pyro_vae.programs import Program


class Site(NamedTuple):
    """A random site of a program that was run for K samples of b images."""

    name: str
    value: Tensor  # `(K, b, ...)`; as the program observes it, where it does
    log_prob: Tensor  # `(K, b)`, or `(b,)` where it does not depend on the sample
    fn: dist.TorchDistribution
    observed: bool
    auxiliary: bool  # drawn on the way to the latents; no site of the model


def run(program: Program, batch: list[Tensor], num_samples: int = 1) -> list[Site]:
    """Run a program once on a batch, which is in a plate of K samples where K > 1."""
    sites = []
    for site in sample_sites(program, batch):
        log_prob = scale_and_mask(site["unscaled_log_prob"], 1.0, site["mask"])
        check_log_prob(site["name"], log_prob, num_samples, len(batch[0]))
        auxiliary = bool(site["infer"].get("is_auxiliary"))
        observed = site["is_observed"]
        if observed:
            check_observed(site["name"], site["value"], site["fn"].event_shape, len(batch[0]))
        sites.append(Site(site["name"], site["value"], log_prob, site["fn"], observed, auxiliary))
    return sites


def check_log_prob(name: str, log_prob: Tensor, num_samples: int, images: int) -> None:
    """Raise InputError unless a site has one log probability for each image.

    Pyro would add up those of other dimensions without a word.
    """
    shape = tuple(log_prob.shape)
    if len(shape) in (1, 1 + (num_samples > 1)) and shape[-1] == images:
        return
    if shape == () or (images > 1 and shape in ((1,), (1, 1), (num_samples, 1))):
        raise InputError(
            f"site {name!r} has one log probability for all {images} images together: sample it "
            "for each image, in a plate over the images (as Pyro's AutoNormal does, and "
            "Refined(model, guide), which is Laplace's approximation for each image)"
        )
    if len(shape) == 1:
        raise InputError(
            f"site {name!r} is of {shape[0]} images, and {images} were given: give the plate the "
            "size of the batch; a guide that has numbers of its own for each image needs all of "
            "its images, in their order"
        )
    wanted = (num_samples, images) if num_samples > 1 else (images,)
    raise InputError(
        f"site {name!r} gives log probabilities of shape {shape}, not {wanted}: put it in one "
        "plate over the images and declare its other dimensions with .to_event()"
    )


def check_observed(name: str, value: Tensor, event_shape: torch.Size, images: int) -> None:
    """Raise InputError where the images' own dimension would count as one of an image.

    The value `(B, 28, 28)` of a site of images `(1, 28, 28)`, for instance, would broadcast, and
    each image would be scored against all B.
    """
    if images > 1 and 0 < value.dim() <= len(event_shape) and len(value) == images:
        raise InputError(
            f"site {name!r} of an image has shape {tuple(event_shape)}, and the {images} images "
            f"that it observes are {tuple(value.shape)}: give them all dimensions of an image, as "
            "by x[:, None] for one channel"
        )


def sample_sites(program: Program, batch: list[Tensor]) -> list[dict]:
    """Run a model or guide once; return its sample sites, each with its log probability."""
    trace = poutine.trace(program).get_trace(*batch)
    trace.compute_log_prob()
    sites = [trace.nodes[name] for name in trace.stochastic_nodes + trace.observation_nodes]
    return [site for site in sites if is_random(site)]


def innermost(fn: dist.TorchDistribution) -> dist.TorchDistribution:
    """Return the distribution that others, such as `Independent`, are wrapped around."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def is_random(site: dict) -> bool:
    """Return True for drawn or observed sites, False for subsampling and deterministic ones."""
    return (
        site["type"] == "sample"
        and not site_is_subsample(site)
        and not site["infer"].get("_deterministic")
    )
