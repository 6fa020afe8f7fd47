"""Weights on disk: written whole, read without running code, checked against their networks."""

from pathlib import Path

import torch
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.files import whole_file
from pyro_vae.guides import MeanField
from pyro_vae.models import Model
from pyro_vae.networks import ARCHITECTURES


def save_tensors(path: str | Path, content: dict) -> None:
    """Write a dict of tensors, numbers, strings, lists and dicts, all at once or not at all."""
    with whole_file(path) as partial:
        torch.save(content, partial)


def load_tensors(path: str | Path, kind: str, keys: set[str]) -> dict:
    """Read what `save_tensors` wrote; `weights_only`, so that a hostile file cannot run code."""
    if not Path(path).is_file():
        raise InputError(f"{path} is not a file: train first, or name another checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises anything from EOFError to UnpicklingError
        raise InputError(
            f"{path} is not {kind} that can be read ({type(error).__name__}): it is truncated or "
            "of another program; delete it and train again"
        ) from error
    if not isinstance(content, dict) or not keys <= content.keys():
        raise InputError(f"{path} is not {kind}: it lacks {sorted(keys)}; name another file")
    return content


def load_weights(module: nn.Module, state: dict, path: str | Path) -> None:
    """Load `state` into `module`, or raise InputError and leave it as it is."""
    own = {name: tuple(w.shape) for name, w in module.state_dict().items()}
    try:
        found = {name: tuple(w.shape) for name, w in state.items()}
        finite = all(bool(w.isfinite().all()) for w in state.values())
    except AttributeError:
        found, finite = {}, True
    for name in own.keys() | found.keys():
        if own.get(name) != found.get(name):
            raise InputError(
                f"{path} holds another architecture: {name} is {found.get(name, 'absent')} there "
                f"and {own.get(name, 'absent')} here; name another checkpoint, or the latent "
                "dimension it was trained with"
            )
    if not finite:
        raise InputError(f"{path} holds weights that are not finite: train again")
    module.load_state_dict(state)


def save_vae(path: str | Path, model: Model, guide: MeanField, config: dict) -> None:
    """Write the checkpoint of a trained autoencoder: `decoder`, `encoder` and `config`."""
    save_tensors(
        path,
        {
            "decoder": model.decoder.state_dict(),
            "encoder": guide.encoder.state_dict(),
            "config": config,
        },
    )


def load_vae(path: str | Path) -> tuple[Model, MeanField, dict]:
    """An autoencoder from a checkpoint: model, mean-field guide, and the config it came from.

    A config without `architecture` or `classes` is of the appendix's, without labels.
    """
    content = load_tensors(path, "a checkpoint", {"decoder", "encoder", "config"})
    config = content["config"]
    try:
        model, guide = build_vae(
            config["latent_dim"],
            config["precision"],
            config.get("architecture", "appendix"),
            config.get("classes", 0),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} has no latent_dim and precision in its config") from error
    load_weights(model.decoder, content["decoder"], path)
    load_weights(guide.encoder, content["encoder"], path)
    return model, guide, config


def build_vae(
    latent_dim: int = 4,
    precision: str = "float32",
    architecture: str = "appendix",
    classes: int = 0,
) -> tuple[Model, MeanField]:
    """An autoencoder, untrained: a Bernoulli generator and its mean-field Gaussian guide.

    With `classes` > 0 both take labels as well.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"architecture {architecture!r} is unknown: choose from {', '.join(ARCHITECTURES)}"
        )
    model = Model(ARCHITECTURES[architecture](latent_dim, classes))
    return model, MeanField(model, precision)
