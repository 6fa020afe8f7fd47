"""A trained autoencoder: model, guide and config, built, saved and loaded."""

from pathlib import Path

import torch
from torch import Tensor

from pyro_vae.errors import InputError, check_choice, checked
from pyro_vae.guides import AMORTISED
from pyro_vae.guides.amortised import Amortised
from pyro_vae.models import Model
from pyro_vae.networks import ARCHITECTURES
from pyro_vae.priors import PRIORS
from pyro_vae.seeds import seeded
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.tensors import blaming, load_tensors, load_weights, save_tensors


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

    A config without `architecture`, `num_classes`, `guide` or `prior` is the appendix's: no labels,
    mean-field, N(0, I). Raises InputError, which says what to do, if the file is absent, damaged or
    of another program, or if its weights are not finite or not of the shapes its config asks for.
    """
    content = load_tensors(path, "a checkpoint", {"decoder", "encoder", "config"})
    with blaming(path):
        config = _in_current_terms(content["config"])
        model, guide = _built_again(config, content["encoder"])
        load_weights(model.decoder, content["decoder"], path)
        load_weights(model.prior, content.get("prior", {}), path)
        weights = {f"encoder.{name}": w for name, w in content["encoder"].items()}
        load_weights(guide, weights | content.get("family", {}), path)
    return model, guide, config


def _in_current_terms(config: dict) -> dict:
    """A checkpoint's config by today's names of the settings: older files are read too."""
    former = {"classes": "num_classes", "shards": "batch_parts"}
    current = {former.get(name, name): value for name, value in config.items()}
    if "decay" in current:
        current["schedule"] = "cosine" if current.pop("decay") else "constant"
    return current


def _building(config: dict) -> dict:
    """Those entries of a checkpoint's config by which `build_vae` makes model and guide."""
    names = ("latent_dim", "precision", "architecture", "num_classes", "guide", "prior")
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
    num_classes: int = 0,
    guide: str = "mean_field",
    prior: str = "standard",
) -> tuple[Model, Amortised]:
    """An autoencoder, untrained: a Bernoulli generator, and one of the guides by name.

    With `num_classes` > 0 both take labels as well. Raises InputError for an unknown name, and for
    a guide that cannot have so few dimensions.
    """
    check_choice(ARCHITECTURES, architecture=architecture)
    check_choice(PRIORS, prior=prior)
    check_choice(AMORTISED, guide=guide)
    decoder = ARCHITECTURES[architecture](latent_dim, num_classes)
    model = Model(decoder, prior=PRIORS[prior](latent_dim, num_classes))
    return model, AMORTISED[guide](model, precision=precision)
