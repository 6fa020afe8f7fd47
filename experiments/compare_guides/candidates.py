"""What is compared."""

import argparse
import importlib
from collections.abc import Callable

from torch import Tensor, nn

from pyro_vae.errors import InputError
from pyro_vae.guides import GUIDES
from pyro_vae.guides.amortised import Amortised
from pyro_vae.likelihood.importance import log_weights
from pyro_vae.likelihood.traces import Program
from pyro_vae.models import Model

Builder = Callable[[Model], Program]


def reason(error: Exception) -> str:
    """Why a user's own code failed, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def find_guide(spec: str) -> tuple[str, Builder]:
    """The label and the builder of a guide: one of GUIDES by name, or `path.to.module:Name`."""
    if spec in GUIDES:
        return spec, GUIDES[spec]
    module, colon, name = spec.partition(":")
    if not colon:
        raise InputError(
            f"--guides: {spec!r} is unknown: choose from {', '.join(GUIDES)}, "
            "or name your own as path.to.module:Name"
        )
    try:
        return name, getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's own code
        raise InputError(f"--guides: {spec!r} cannot be imported: {reason(error)}") from error


def make_guide(
    name: str, builder: Builder, model: Model, args: argparse.Namespace, x: Tensor
) -> nn.Module:
    """The guide that `builder` makes of the model, on the device and in the precision asked for.

    It is tried on a few images `x`: what is wrong with it shows before any other is trained.
    """
    try:
        guide = builder(model)
    except InputError:
        raise
    except Exception as error:  # a user's own code
        raise InputError(f"--guides: {name}(model) fails with {reason(error)}") from error
    if not isinstance(guide, nn.Module):
        raise InputError(
            f"--guides: {name}(model) is a {type(guide).__name__}: make it a torch.nn.Module, "
            "whose parameters can be trained and kept"
        )
    if isinstance(guide, Amortised):
        guide.encoder.precision = args.guide_precision
    guide.to(args.device)
    try:
        log_weights(model, guide, x, num_samples=2)
    except Exception as error:
        raise InputError(f"--guides: {name} fails on an image with {reason(error)}") from error
    return guide


def warm_start(guide: nn.Module, known: nn.Module) -> None:
    """Give an amortised guide the weights of a trained encoder but for its last layer.

    That layer is new to every guide. An encoder of another make starts from its own weights.
    """
    if not isinstance(guide, Amortised):
        return
    own = guide.encoder.state_dict()
    last = f"g.{len(known.g) - 1}."
    fitting = {
        name: w
        for name, w in known.state_dict().items()
        if not name.startswith(last) and name in own and own[name].shape == w.shape
    }
    guide.encoder.load_state_dict(fitting, strict=False)
