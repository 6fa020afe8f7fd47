"""Programs of the pixels that are seen, where others are not: a mask changes the program.

Given z the pixels of an image are independent, so those that are not seen are left out of the sum:

    log p(x_seen, z) = log p(z) + sum_{i seen} log p(x_i | z)

A masked program is called on `(x, seen, *labels)`. `seen` is bool, of the shape of x; x holds 0
where a pixel is not seen, so that nothing depends on what was there. The model scores the seen
pixels only. The guide is given x with its zeros: any guide is a valid proposal. A guide that is
fitted to the model's posterior has a method `masked`, which returns the guide fitted to
p(z | x_seen).
"""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to

from pyro_vae.complaints import one_line_refusals
from pyro_vae.data.gathering import from_numpy
from pyro_vae.data.images import check_finite
from pyro_vae.errors import InputError, describe
from pyro_vae.likelihood.sites import Site, innermost, is_random, run
from pyro_vae.programs import Program, evaluating
from pyro_vae.seeds import seeded


def masked(
    model: Program,
    guide: Program,
    x: Tensor,
    mask: Tensor | np.ndarray,
    labels: Sequence[Tensor],
) -> tuple["MaskedModel", Program, list[Tensor]]:
    """Return model and guide of the pixels that are seen, and their arguments.

    `mask` is True where a pixel is seen, of the shape of an image or of x.
    """
    mask = from_numpy(mask, "mask") if isinstance(mask, np.ndarray) else mask
    if x.dim() == 4 and x.shape[1] == 1 and mask.shape == (len(x), *x.shape[2:]):
        mask = mask[:, None]  # of images without a channel
    try:
        seen = mask.to(x.device).expand(x.shape)
    except RuntimeError:
        seen = mask
    if seen.shape != x.shape or seen.dtype != torch.bool:
        raise InputError(
            "mask must be True where a pixel is seen, bool, of the shape of x or of one image, "
            f"{tuple(x.shape[1:])}, not {describe(mask)}"
        )
    filled = x.masked_fill(~seen, 0)
    where, remedy = " at pixels that mask calls seen", "make mask False there"
    check_finite(filled, where=where, remedy=remedy)
    return MaskedModel(model), masked_guide(guide), [filled, seen, *labels]


class MaskedModel:
    """The model of the pixels that are seen: its observed site that holds x scores only those."""

    def __init__(self, model: Program) -> None:
        self.model = model
        self.site = ""  # the name of the site that holds x, known once the model was run

    def __call__(self, x: Tensor, seen: Tensor, *labels: Tensor) -> None:
        """Run the model on x; leave out the log probabilities of pixels that are not seen."""
        with _SeenOnly(x, seen) as seen_only:
            self.model(x, *labels)
        if not seen_only.site:
            raise InputError(
                "the model observes no site that holds the pixels of x: with a mask it must "
                "observe x itself, or x reshaped, pyro.sample(..., obs=x)"
            )
        self.site = seen_only.site


class Unmasked:
    """A guide that does not know of masks: it is given x, with zeros where it is not seen."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.takes_samples = getattr(program, "takes_samples", False)

    def __call__(self, x: Tensor, seen: Tensor, *labels: Tensor) -> None:
        """Run the guide on x."""
        self.program(x, *labels)


def masked_guide(guide: Program) -> Program:
    """Return the guide of `(x, seen, *labels)`."""
    return guide.masked() if hasattr(guide, "masked") else Unmasked(guide)


@one_line_refusals
def check_unseen(model: MaskedModel, batch: list[Tensor]) -> None:
    """Raise InputError where what the model scores depends on pixels that are not seen.

    It is run twice, with zeros and with ones there, from the same random numbers: what it draws,
    what it observes and the densities must be the same.
    """
    x, seen, *labels = batch
    with torch.no_grad(), evaluating(model):
        runs = []
        for filled in (x, x.masked_fill(~seen, 1)):
            with seeded(0, x):
                runs.append(run(model, [filled, seen, *labels]))
    for zeros, ones in zip_longest(*runs):  # one may have sites that the other has not
        if not (zeros and ones and _alike(zeros, ones)):
            raise InputError(
                f"site {(zeros or ones).name!r} depends on pixels that mask calls not seen: "
                "given z, what the model scores must depend on no other pixel"
            )


def _alike(site: Site, other: Site) -> bool:
    """Whether two sites are one, with the same value and the same density."""
    return site.name == other.name and all(
        torch.allclose(getattr(site, name), getattr(other, name), equal_nan=True)
        for name in ("value", "log_prob")
    )


class _SeenOnly(Messenger):
    """Put the distribution of the seen pixels in the place of that of all pixels."""

    def __init__(self, x: Tensor, seen: Tensor) -> None:
        super().__init__()
        self.x, self.seen, self.site = x, seen, ""

    def _pyro_sample(self, msg: dict) -> None:
        if not (msg["is_observed"] and is_random(msg) and _is_reshaped(msg["value"], self.x)):
            return
        self.site, value = msg["name"], msg["value"]
        seen = self.seen.reshape(value.shape)
        msg["fn"] = _of_seen(msg["fn"], seen, self.site)
        msg["value"] = torch.where(seen, value, _inside(msg["fn"], value))


def _is_reshaped(value: Tensor, x: Tensor) -> bool:
    """Whether an observed value holds the pixels of x, in their order."""
    return value.numel() == x.numel() and torch.equal(value.reshape(x.shape).to(x), x)


def _of_seen(fn: dist.TorchDistribution, seen: Tensor, name: str) -> dist.TorchDistribution:
    """Return the distribution whose log probability is that of the seen pixels."""
    if not fn.event_shape:
        return fn.mask(seen)
    if isinstance(fn, torch.distributions.Independent):
        base = _of_seen(fn.base_dist, seen, name)
        return dist.Independent(base, fn.reinterpreted_batch_ndims)
    raise InputError(
        f"site {name!r} is {type(fn).__name__}, whose pixels are not independent given z: with a "
        "mask they must be, as by dist.Normal(...).to_event(1)"
    )


def _inside(fn: dist.TorchDistribution, value: Tensor) -> Tensor:
    """Return a number inside the support: a density at its edge may have no gradient."""
    zero = value.new_zeros(())
    try:
        return biject_to(innermost(fn).support)(zero).to(value.dtype)
    except NotImplementedError:  # discrete
        return zero
