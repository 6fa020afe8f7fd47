"""Weights on disk: written whole, read without running code, checked against their networks."""

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pyro_vae.errors import InputError, check_choice, checked, kind
from pyro_vae.files import whole_file
from pyro_vae.guides import AMORTISED, Amortised
from pyro_vae.models import Model
from pyro_vae.networks import ARCHITECTURES
from pyro_vae.parallel import seeded
from pyro_vae.priors import PRIORS


@checked
def save_tensors(path: str | Path, content: dict) -> None:
    """Write a dict of tensors, numbers, texts, lists and dicts, all at once or not at all.

    Raises InputError for content that could not be read again, and where `path` cannot be written.
    """
    packed = pack(content)
    with whole_file(path) as partial:
        partial.write_bytes(packed)


def pack(content: dict) -> bytes:
    """`content` as the bytes of a file, or InputError if `load_tensors` would not read them."""
    buffer = io.BytesIO()  # torch's own writer reports a full disk as an error of its own kind
    try:
        torch.save(content, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:  # whatever pickle and the classes in it raise
        raise InputError(
            "content must be tensors, numbers, texts, lists and dicts, of Python's own types "
            f"({type(error).__name__})"
        ) from error
    return buffer.getvalue()


@checked
def load_tensors(
    path: str | Path, kind: str, keys: set[str], remedy: str = "delete it and train again"
) -> dict:
    """Read what `save_tensors` wrote; `weights_only`, so that a hostile file cannot run code.

    Raises InputError if the file is absent, damaged (each part of it has a checksum), of another
    program, or lacks one of `keys`.
    """
    if not os.path.isfile(path):  # Path's own fails for a name that is too long
        raise InputError(f"{path} is not a file: train first, or name another checkpoint")
    try:
        with zipfile.ZipFile(path) as parts:
            if parts.testzip() is not None:
                raise zipfile.BadZipFile
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}; mend that, or name another file"
        ) from error
    except Exception as error:  # torch.load raises anything from EOFError to UnpicklingError
        raise InputError(
            f"{path} is not {kind} that can be read ({type(error).__name__}): it is damaged or "
            f"of another program; {remedy}"
        ) from error
    if not isinstance(content, dict) or not keys <= content.keys():
        lacking = sorted(keys - content.keys()) if isinstance(content, dict) else sorted(keys)
        raise InputError(f"{path} is not {kind}: it lacks {lacking}; name another file")
    return content


@contextmanager
def using(path: str | Path, remedy: str = "delete it and train again") -> Iterator[None]:
    """While the content of a file is put to use: what is wrong with it is an InputError.

    For files that are whole and have the right keys, and still not what belongs there.
    """
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError) as error:
        if isinstance(error, InputError) and str(path) in str(error):
            raise
        what = str(error) if isinstance(error, InputError) else type(error).__name__
        raise InputError(f"{path} holds what does not belong there ({what}): {remedy}") from error


@checked
def load_weights(module: nn.Module, state: dict, path: str | Path) -> None:
    """Load `state` into `module`, or raise InputError and leave it as it is."""
    own = {name: kind(w) for name, w in module.state_dict().items()}
    found = {name: kind(w) for name, w in state.items()}
    for name in own.keys() | found.keys():
        if own.get(name) != found.get(name):
            raise InputError(
                f"{path} holds another architecture: {name} is {found.get(name, 'absent')} there "
                f"and {own.get(name, 'absent')} here; name another checkpoint, or the latent "
                "dimension it was trained with"
            )
    if not all(bool(w.isfinite().all()) for w in state.values()):
        raise InputError(f"{path} holds weights that are not finite: train again")
    module.load_state_dict(state)


def fingerprint(*parts: object, weights: bool = True) -> str:
    """Tells one set of models, guides and tensors from another: by classes, settings and weights.

    Of a module's weights only the shapes count where `weights` is False; of its attributes those
    without an underscore; of a function its name.
    """
    digest = hashlib.sha256()
    within: list[int] = []  # the objects that hold the one at hand: one of them may be in it again

    def put(content: bytes) -> None:
        # with its length, so that 1 and 12 are not 11 and 2
        digest.update(f"{len(content)} ".encode() + content)

    def add(part: object) -> None:
        if id(part) in within:
            put(f"holder {within.index(id(part))}".encode())
            return
        within.append(id(part))
        look(part)
        within.pop()

    def look(part: object) -> None:
        if isinstance(part, Tensor):
            put(kind(part).encode())
            numbers = part.detach().cpu().contiguous().reshape(-1)
            put(numbers.view(torch.uint8).numpy().tobytes())  # NumPy has no bfloat16
        elif isinstance(part, np.ndarray):
            put(kind(part).encode())
            put(part.tobytes())
        elif isinstance(part, dict):
            put(f"dict {len(part)}".encode())
            for key, value in part.items():
                put(str(key).encode())
                add(value)
        elif isinstance(part, list | tuple):
            put(f"list {len(part)}".encode())
            for value in part:
                add(value)
        elif isinstance(part, nn.Module):
            add(type(part))
            own = {**part._parameters, **part._buffers}
            add(own if weights else {name: kind(w) for name, w in own.items()})
            # a setting, or another model or guide that is no part of this one
            add({k: v for k, v in vars(part).items() if k[0] != "_" and k != "training"})
            add(part._modules)
        elif isinstance(part, partial):
            add([part.func, part.args, part.keywords])
        elif hasattr(part, "__func__"):  # a method
            add([part.__func__, part.__self__])
        elif hasattr(part, "__qualname__"):  # a class or a function
            put(f"{part.__module__}.{part.__qualname__}".encode())
        elif hasattr(part, "__dict__"):
            add(type(part))
            add(vars(part))
        else:
            put(repr(part).encode())

    add(parts)
    return digest.hexdigest()[:16]


@checked
def save_vae(path: str | Path, model: Model, guide: Amortised, config: dict) -> None:
    """Write the checkpoint of a trained autoencoder: `decoder`, `prior`, `encoder`, `config`.

    And as `family` the weights that a guide has beside its encoder's: a flow's, for instance.
    Raises InputError where `load_vae` would make another autoencoder of it.
    """
    if not {"latent_dim", "precision"} <= config.keys():
        raise InputError("config must hold latent_dim and precision, by which it is built again")
    built = _built_again(config, guide.encoder.state_dict())
    for name, given, again in zip(("model", "guide"), (model, guide), built, strict=True):
        if fingerprint(given, weights=False) != fingerprint(again, weights=False):
            raise InputError(
                f"{name} is not what `build_vae` makes of the config, {_building(config)}: save "
                f"the weights of another by save_tensors(path, {name}.state_dict())"
            )
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
    with using(path):
        model, guide = _built_again(config, content["encoder"])
        load_weights(model.decoder, content["decoder"], path)
        load_weights(model.prior, content.get("prior", {}), path)
        weights = {f"encoder.{name}": w for name, w in content["encoder"].items()}
        load_weights(guide, weights | content.get("family", {}), path)
    return model, guide, config


def _building(config: dict) -> dict:
    """Those entries of a checkpoint's config by which `build_vae` makes model and guide."""
    names = ("latent_dim", "precision", "architecture", "classes", "guide", "prior")
    return {name: config[name] for name in names if name in config}


def _built_again(config: dict, encoder: dict[str, Tensor]) -> tuple[Model, Amortised]:
    """Model and guide of a checkpoint's config, untrained, of the type of the weights `encoder`.

    That may not be torch's default type of now. No random numbers of the caller are used up.
    """
    with seeded(0, torch.empty(0)):
        model, guide = build_vae(**_building(config))
    dtype = next(iter(encoder.values()), torch.empty(0)).dtype
    return model.to(dtype), guide.to(dtype)


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
