"""A trained autoencoder for a script: from its checkpoint, or trained now."""

import argparse
import os
from contextlib import nullcontext
from pathlib import Path

import torch

from experiments.cli import TRAINING, check_device, training_settings
from experiments.record import provenance
from pyro_vae import parallel
from pyro_vae.analysis.judges import Classifier, train_classifier
from pyro_vae.data import Dataset
from pyro_vae.errors import InputError
from pyro_vae.guides.amortised import Amortised
from pyro_vae.models import Model
from pyro_vae.storage.files import check_folder, lock_file
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.tensors import blaming, load_tensors, load_weights, save_tensors
from pyro_vae.training.fit import check_batch_parts, fit
from pyro_vae.vae import build_vae, load_vae, save_vae

# What a checkpoint that does not say otherwise holds: the appendix's autoencoder, as it trains it.
APPENDIX = {
    "architecture": "appendix",
    "num_classes": 0,
    "guide": "mean_field",
    "prior": "standard",
    "schedule": "constant",
    "batch_parts": 1,
}


def load_or_train(
    args: argparse.Namespace,
    data: Dataset,
    latent_dim: int,
    name: str | None = None,
    architecture: str = "appendix",
    num_classes: int = 0,
    guide_name: str = "mean_field",
    prior: str = "standard",
    schedule: str = "constant",
) -> tuple[Model, Amortised, dict]:
    """An autoencoder with `latent_dim` dimensions: from its checkpoint, or trained now.

    The checkpoint is RESULTS/checkpoints/name.pt (by default dN.pt) unless `--checkpoint` says
    otherwise. With `num_classes` > 0 model and guide take the labels too; `schedule` is `fit`'s.
    Returns both on `args.device`, and the config with the training's history.
    """
    device = check_device(args.device)
    asked = {option: getattr(args, option) for option in TRAINING if hasattr(args, option)}
    settings = training_settings(args)
    kind = {
        "latent_dim": latent_dim,
        "architecture": architecture,
        "num_classes": num_classes,
        "guide": guide_name,
        "prior": prior,
        "schedule": schedule,
    }
    name = name or f"d{latent_dim}"
    path = args.checkpoint or args.results / "checkpoints" / f"{name}.pt"
    if os.path.isdir(path):  # Path's own fails for names that are too long
        raise InputError(f"--checkpoint {path} is a folder: name a file")
    own = path.stem if path.suffix in (".pt", ".pth") else path.name
    state_path = path.with_name(f"{own}.training.pt")
    trained, begun = os.path.exists(path), os.path.exists(state_path)
    if args.checkpoint and not (trained or begun or args.train or args.resume):
        raise InputError(f"--checkpoint {path} is not a file: name another, or add --train")
    if trained and not args.train and not (args.resume and begun):
        model, guide, config = load_vae(path)
        if asked.get("precision") == "auto":
            asked.pop("precision")
        found = APPENDIX | config
        for option, value in (asked | kind | {"dataset": data.name}).items():
            if found.get(option) != value:
                raise InputError(
                    f"{path} was trained with {option}={found.get(option)}, not {value}: "
                    "add --train to train afresh, or name another --checkpoint"
                )
        print(f"autoencoder: {path}, of {config['dataset']}, epochs: {config.get('epochs')}")
        return model.to(device), guide.to(device), config

    torch.manual_seed(settings["seed"])
    model, guide = build_vae(
        latent_dim, settings["precision"], architecture, num_classes, guide_name, prior
    )
    check_folder(path.parent)
    check_batch_parts(settings["batch_parts"], len(data.train_images), settings["batch_size"])
    with lock_file(path) if parallel.rank() == 0 else nullcontext():
        if os.path.exists(state_path) and not (args.train or args.resume):
            raise InputError(
                f"{state_path} is of an earlier training, and {path} is not there: add --resume, "
                "with the same options, to take it up, or delete it to train afresh"
            )
        print(f"autoencoder: training {own} on {data.name}, epochs: {settings['epochs']}")
        if args.train and not args.resume and parallel.rank() == 0:
            state_path.unlink(missing_ok=True)  # or a later --resume would go on with it
        model.to(device), guide.to(device)
        train, test = (
            tuple(rows.to(device) for rows in (images, labels)[: 2 if num_classes else 1])
            for images, labels in (
                (data.train_images, data.train_labels),
                (data.test_images, data.test_labels),
            )
        )
        history = fit(
            model,
            guide,
            train,
            test,
            state_path=state_path,
            resume=args.resume,
            schedule=schedule,
            must_match={"dataset": data.name, "precision": settings["precision"]},
            **{option: value for option, value in settings.items() if option != "precision"},
        )
        config = {"dataset": data.name, **kind, **settings}
        config |= {"history": history, "provenance": provenance()}
        known = _known(path, model, guide) if args.resume else {}
        if known | {"provenance": None} == config | {"provenance": None}:
            config = known  # nothing was left to train: it stays what an earlier run made
        elif parallel.rank() == 0:
            save_vae(path, model, guide, config)
            print(f"autoencoder: saved to {path}")
    return model, guide, config


def _known(path: Path, model: Model, guide: Amortised) -> dict:
    """The config of the checkpoint at `path`, if it can be read and holds just these weights."""
    try:
        *saved, config = load_vae(path)
    except InputError:
        return {}
    return config if fingerprint(*saved) == fingerprint(model, guide) else {}


def trained_classifier(args: argparse.Namespace, data: Dataset) -> Classifier:
    """The independent classifier of the data set: from its checkpoint, or trained now."""
    path = args.results / "checkpoints" / "classifier.pt"
    classifier = Classifier()
    if path.exists():
        content = load_tensors(path, "a classifier", {"classifier", "config"})
        with blaming(path):
            if content["config"]["dataset"] != data.name:
                raise InputError(f"{path} was trained on other data than {data.name}: delete it")
            load_weights(classifier, content["classifier"], path)
        return classifier.eval()
    check_folder(path.parent)
    classifier = train_classifier(data)
    config = {"dataset": data.name, "provenance": provenance()}
    save_tensors(path, {"classifier": classifier.state_dict(), "config": config})
    return classifier
