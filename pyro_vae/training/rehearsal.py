"""A trial run before the training: what cannot be trained or scored is refused before a step.

It runs in evaluation mode with random numbers of its own, and registers nothing for good.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from pyro import poutine
from pyro.infer import ELBO, TraceEnum_ELBO, TraceTMC_ELBO
from pyro.util import check_site_shape
from torch import Tensor

from pyro_vae.errors import InputError
from pyro_vae.likelihood.sites import check_observed, is_random
from pyro_vae.likelihood.traces import draw, log_joint, take_samples
from pyro_vae.programs import Program, evaluating, has_own_numbers
from pyro_vae.seeds import seeded
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.training.batches import Group, take, transform_seed

Take = Callable[[Group, slice], list[Tensor]]  # the rows of a group, transformed


def rehearse(
    model: Program,
    guide: Program,
    train: list[Group],
    test: list[Group],
    *,
    elbo: ELBO,
    transform: Callable[[Tensor], Tensor] | None,
    seed: int,
    batch_size: int,
    batch_parts: int,
) -> bool:
    """Raise an error if `fit` could not train on `train`, or score the images of `test`.

    What can be trained though not scored, such as a point estimate, passes without `test`. Returns
    whether the guide has numbers of its own for each image, in the order of the images.
    """
    seed = transform_seed(seed, 0, 0, rehearsal=True)
    rows = partial(take, transform=transform, seed=seed)
    scored, in_order = {len(group) for group in test}, False
    with seeded(seed, train[0][0]), evaluating(model, guide):
        if has_own_numbers(guide):  # an autoguide takes the number of images from its first call
            guide(*rows(train[0], slice(None)))
        for group in train:
            size = math.ceil(min(len(group[0]), batch_size) / batch_parts)
            batch = rows(group, slice(size))
            if _has_numbers_in_order(guide, group, batch, rows):
                _check_all_at_once(train, test, size, batch_parts)
                in_order = True
            _try(model, guide, batch, len(group) in scored, elbo)
        for group in test:
            if len(group) not in {len(other) for other in train}:
                _try(model, guide, [tensor[:batch_size] for tensor in group], True, elbo)
    return in_order


def _try(model: Program, guide: Program, batch: list[Tensor], scored: bool, elbo: ELBO) -> None:
    """Score one sample of each image, or raise the error unless it is no obstacle to training."""
    try:
        with torch.no_grad():
            latents, _ = draw(guide, batch, 1)
            log_joint(model, batch, latents, observes=True)
    except Exception:
        if scored or not _trainable(model, guide, batch, elbo):
            raise
        return
    at_once = elbo.num_particles if elbo.vectorize_particles else 1
    if at_once > 1 and not take_samples(model, guide, batch):
        raise InputError(
            f"model or guide does not take {at_once} particles at once (in a plate of particles "
            "its log densities are not those without): let its networks take further leading "
            "dimensions, in one plate over the images, or train with one particle"
        )


def _trainable(model: Program, guide: Program, batch: list[Tensor], elbo: ELBO) -> bool:
    """Return whether the sites of model and guide match, in plates, as Pyro's bounds need it."""
    try:
        guide_trace = poutine.trace(guide).get_trace(*batch)
        replayed = poutine.replay(model, trace=guide_trace)
        model_trace = poutine.trace(replayed).get_trace(*batch)
        guide_sites, model_sites = _sites(guide_trace), _sites(model_trace)
        for site in [*guide_sites.values(), *model_sites.values()]:
            check_site_shape(site, math.inf)
        for name, site in model_sites.items():
            if site["is_observed"]:
                check_observed(name, site["value"], site["fn"].event_shape, len(batch[0]))
    except Exception:  # any: that of the scoring says it better
        return False
    latent = {name for name, site in model_sites.items() if not site["is_observed"]}
    drawn = {name for name, site in guide_sites.items() if not site["infer"].get("is_auxiliary")}
    needed = latent
    if isinstance(elbo, TraceEnum_ELBO | TraceTMC_ELBO):  # which sums over the latents so marked
        needed = {name for name in latent if not model_sites[name]["infer"].get("enumerate")}
    return needed <= drawn <= latent < model_sites.keys()


def _sites(trace: poutine.Trace) -> dict[str, dict]:
    """Return the drawn and observed sites of a trace, with their log probabilities, by name."""
    trace.compute_log_prob()
    return {name: site for name, site in trace.nodes.items() if is_random(site)}


def _has_numbers_in_order(guide: Program, group: Group, batch: list[Tensor], rows: Take) -> bool:
    """Return whether the guide runs on all images of a group, but not on another number.

    It then has numbers of its own for each image. Raises InputError if it runs on as many images as
    `batch` has, and on no other number.
    """
    images, size = len(group[0]), len(batch[0])
    fewer = [tensor[: size - 1] for tensor in batch] if size > 1 else rows(group, slice(2))
    if images == 1 or _runs(guide, fewer):
        return False
    if _runs(guide, batch if size == images else rows(group, slice(images))):
        return True
    if _runs(guide, batch):
        raise InputError(
            f"guide runs on {size} images and not on {len(fewer[0])}: let it take their number "
            "from x"
        )
    return False


def _check_all_at_once(train: list[Group], test: list[Group], size: int, batch_parts: int) -> None:
    """Raise InputError unless a guide with numbers for each image gets all of them, and no other.

    `size` is the number of images that it gets at a time.
    """
    images = len(train[0][0])
    if len(train) > 1:
        raise InputError(
            "guide has numbers of its own for each image: train must be one group of images"
        )
    if size < images:
        parts = ", and batch_parts to 1" if batch_parts > 1 else ""
        raise InputError(
            f"guide has numbers of its own for each of {images} images: set batch_size to {images} "
            f"or more{parts}"
        )
    if test and fingerprint(test) != fingerprint(train):
        raise InputError(
            "guide has numbers of its own for each image of train: test must be the same images, "
            "or None"
        )


def _runs(guide: Program, batch: list[Tensor]) -> bool:
    """Return whether the guide runs on a batch, and draws for each of its images."""
    try:
        sites = _sites(poutine.trace(guide).get_trace(*batch))
    except Exception:  # any: what it says is said where it matters, in the rehearsal
        return False
    shapes = [site["log_prob"].shape for site in sites.values()]
    return all(len(batch[0]) in shape or shape.numel() == 1 for shape in shapes)
