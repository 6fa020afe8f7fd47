"""What is compared: guides of one frozen generator, or each trained with a generator of its own."""

import argparse
import copy
import importlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn

from experiments.cli import TRAINING, training_settings
from experiments.trained import Spec, load_or_train
from pyro_vae.analysis.sampling import posterior_moments
from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError
from pyro_vae.guides import GUIDES
from pyro_vae.guides.amortised import Amortised
from pyro_vae.likelihood.importance import log_weights
from pyro_vae.models import Model
from pyro_vae.networks.appendix import Decoder
from pyro_vae.programs import Program, has_own_numbers
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.vae import Vae

Builder = Callable[[Model], Program]


# Guides by name: those of the package, and Pyro's Gaussian with numbers of its own for each image.
BY_NAME: dict[str, Builder] = GUIDES | {"auto_normal": AutoNormal}


class Field(NamedTuple):
    """The guides that are compared, before they are trained."""

    candidates: dict[str, tuple[Model, nn.Module]]  # model and guide, by the guide's label
    settings: dict  # training options
    config: dict  # what the results call their training
    generator: str  # the fingerprint of the shared one, or "new"
    refined: Vae | None  # the shared generator with the refined guide, or None


def find_guides(names: str) -> dict[str, Builder]:
    """Return the builders of guides by their labels: BY_NAME's names, or `path.to.module:Name`."""
    builders = [_find_guide(name.strip()) for name in names.split(",")]
    labels = [label for label, _ in builders]
    if len({*labels, "refined"}) <= len(labels):
        raise InputError(f"--guides: the labels {labels} must differ, and none be 'refined'")
    return dict(builders)


def _find_guide(name: str) -> tuple[str, Builder]:
    """Return the label and the builder of one guide."""
    if name in BY_NAME:
        return name, BY_NAME[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise InputError(
            f"--guides: {name!r} is unknown: choose from {', '.join(BY_NAME)}, "
            "or name your own as path.to.module:Name"
        )
    try:
        return attribute, getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a user's own code
        raise InputError(f"--guides: {name!r} cannot be imported: {_reason(error)}") from error


def frozen(
    args: argparse.Namespace, data: Dataset, builders: dict[str, Builder], x: Tensor
) -> Field:
    """Make guides of the checkpoint's generator, whose weights stay as they are.

    Their encoders start from the checkpoint's. A guide with numbers of its own for each image is
    for the images `x` that are compared on, and starts from that encoder's means.
    """
    vae = load_or_train(args, data, Spec(args.latent_dim), path=args.checkpoint)
    settings = TRAINING | {name: vae.config[name] for name in TRAINING if name in vae.config}
    candidates = {}
    for name, builder in builders.items():
        torch.manual_seed(settings["seed"])
        model = copy.deepcopy(vae.model).requires_grad_(False)
        candidates[name] = model, make_guide(name, builder, model, args, x)
        warm_start(candidates[name][1], vae.guide, x)
    return Field(
        candidates,
        # the noise of a constant rate would hide what differs between guides
        settings=settings | {"schedule": "cosine"},
        config=vae.config,
        generator=fingerprint(vae.model),
        refined=vae.refined(),
    )


def joint(args: argparse.Namespace, builders: dict[str, Builder], x: Tensor) -> Field:
    """Make guides, each with an untrained generator of its own: the same weights for all."""
    settings = training_settings(args)
    candidates = {}
    for name, builder in builders.items():
        torch.manual_seed(settings["seed"])
        model = Model(Decoder(args.latent_dim)).to(args.device)
        candidates[name] = model, make_guide(name, builder, model, args, x)
        if has_own_numbers(candidates[name][1]):
            raise InputError(
                f"--guides: {name} has numbers of its own for each image, and trains no generator: "
                "add --frozen-decoder"
            )
    config = settings | {"epochs": args.guide_epochs}
    return Field(candidates, settings, config, generator="new", refined=None)


def make_guide(
    name: str, builder: Builder, model: Model, args: argparse.Namespace, x: Tensor
) -> nn.Module:
    """Make a guide for the model, on the device and in the precision asked for.

    It is tried on two of the images, or on all where it has numbers for each, so that a wrong guide
    stops the run before any is trained.
    """
    try:
        guide = builder(model)
    except InputError:
        raise
    except Exception as error:  # a user's own code
        raise InputError(f"--guides: {name}(model) fails with {_reason(error)}") from error
    if not isinstance(guide, nn.Module):
        raise InputError(
            f"--guides: {name}(model) is a {type(guide).__name__}: make it a torch.nn.Module, "
            "whose parameters can be trained and kept"
        )
    if isinstance(guide, Amortised):
        guide.encoder.precision = args.guide_precision
    guide.to(args.device)
    try:
        log_weights(model, guide, x if has_own_numbers(guide) else x[:2], num_samples=2)
    except Exception as error:
        raise InputError(f"--guides: {name} fails on an image with {_reason(error)}") from error
    return guide


def _reason(error: Exception) -> str:
    """Say in one line why a user's own code failed."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def warm_start(guide: nn.Module, trained: Amortised, x: Tensor) -> None:
    """Let a guide start from the trained encoder: from its weights, but for the last layer's.

    Each family needs other outputs of the last layer. An encoder of another architecture keeps
    its own weights. AutoNormal starts from the means for the images `x`.
    """
    if isinstance(guide, AutoNormal):
        guide.locs.z = posterior_moments(trained, x)[0].to(x)
    if not isinstance(guide, Amortised):
        return
    weights, encoder = guide.encoder.state_dict(), trained.encoder
    last = f"g.{len(encoder.g) - 1}."
    fitting = {
        name: w
        for name, w in encoder.state_dict().items()
        if not name.startswith(last) and name in weights and weights[name].shape == w.shape
    }
    guide.encoder.load_state_dict(fitting, strict=False)
