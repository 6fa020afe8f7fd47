"""Weights on disk: written whole, read without running code, checked against their networks."""

import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_vae.errors import InputError, check_choice, checked
from pyro_vae.files import whole_file
from pyro_vae.guides import AMORTISED, Amortised
from pyro_vae.models import Model
from pyro_vae.networks import ARCHITECTURES
from pyro_vae.priors import PRIORS


@checked
def save_tensors(path: str | Path, content: dict) -> None:
    """Write a dict of tensors, numbers, strings, lists and dicts, all at once or not at all."""
    buffer = io.BytesIO()  # torch's own writer reports a full disk as an error of its own kind
    torch.save(content, buffer)
    with whole_file(path) as partial:
        partial.write_bytes(buffer.getbuffer())


@checked
def load_tensors(
    path: str | Path, kind: str, keys: set[str], remedy: str = "delete it and train again"
) -> dict:
    """Read what `save_tensors` wrote; `weights_only`, so that a hostile file cannot run code."""
    if not Path(path).is_file():
        raise InputError(f"{path} is not a file: train first, or name another checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}; mend that, or name another file"
        ) from error
    except Exception as error:  # torch.load raises anything from EOFError to UnpicklingError
        raise InputError(
            f"{path} is not {kind} that can be read ({type(error).__name__}): it is truncated or "
            f"of another program; {remedy}"
        ) from error
    if not isinstance(content, dict) or not keys <= content.keys():
        lacking = sorted(keys - content.keys()) if isinstance(content, dict) else sorted(keys)
        raise InputError(f"{path} is not {kind}: it lacks {lacking}; name another file")
    return content


@checked
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


def fingerprint(*parts: object) -> str:
    """Tells one set of modules and tensors from another; parts that are neither are left out."""
    digest = hashlib.sha256()
    for part in parts:
        tensors = part.state_dict() if isinstance(part, nn.Module) else {"": part}
        for name, tensor in tensors.items():
            if isinstance(tensor, Tensor):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@checked
def save_vae(path: str | Path, model: Model, guide: Amortised, config: dict) -> None:
    """Write the checkpoint of a trained autoencoder: `decoder`, `prior`, `encoder`, `config`.

    And as `family` the weights that a guide has beside its encoder's: a flow's, for instance.
    """
    family = {k: w for k, w in guide.state_dict().items() if not k.startswith("encoder.")}
    save_tensors(
        path,
        {
            "decoder": model.decoder.state_dict(),
            "prior": model.prior.state_dict(),
            "encoder": guide.encoder.state_dict(),
            "family": family,
            "config": config,
        },
    )


@checked
def load_vae(path: str | Path) -> tuple[Model, Amortised, dict]:
    """An autoencoder from a checkpoint: model, guide, and the config it came from.

    A config without `architecture`, `classes`, `guide` or `prior` is the appendix's: no labels,
    mean-field, N(0, I). Raises InputError, which says what to do, if the file is absent, damaged or
    of another program, or if its weights are not finite or not of the shapes its config asks for.
    """
    content = load_tensors(path, "a checkpoint", {"decoder", "encoder", "config"})
    config = content["config"]
    try:
        model, guide = build_vae(
            config["latent_dim"],
            config["precision"],
            **{
                name: config[name]
                for name in ("architecture", "classes", "guide", "prior")
                if name in config
            },
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} has no latent_dim and precision in its config") from error
    load_weights(model.decoder, content["decoder"], path)
    load_weights(model.prior, content.get("prior", {}), path)
    weights = {f"encoder.{name}": w for name, w in content["encoder"].items()}
    load_weights(guide, weights | content.get("family", {}), path)
    return model, guide, config


@checked
def build_vae(
    latent_dim: int = 4,
    precision: str = "float32",
    architecture: str = "appendix",
    classes: int = 0,
    guide: str = "mean_field",
    prior: str = "standard",
) -> tuple[Model, Amortised]:
    """An autoencoder, untrained: a Bernoulli generator, and one of the guides by name.

    With `classes` > 0 both take labels as well. Raises InputError for an unknown name, and for
    a guide that cannot have so few dimensions.
    """
    check_choice(ARCHITECTURES, architecture=architecture)
    check_choice(PRIORS, prior=prior)
    check_choice(AMORTISED, guide=guide)
    decoder = ARCHITECTURES[architecture](latent_dim, classes)
    model = Model(decoder, prior=PRIORS[prior](latent_dim, classes))
    return model, AMORTISED[guide](model, precision=precision)
