"""A trained autoencoder for a script: from its checkpoint, or trained now."""

import argparse
import os
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch

from experiments.cli import check_device, fit_options, results_root, training_settings
from experiments.record import provenance
from pyro_vae import parallel
from pyro_vae.analysis.judges import Classifier, train_classifier
from pyro_vae.data.datasets import Dataset
from pyro_vae.errors import InputError
from pyro_vae.storage.files import check_folder, lock_file
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.tensors import blaming, load_tensors, load_weights, save_tensors
from pyro_vae.training.fit import check_batch_parts, fit
from pyro_vae.vae import Vae

# What a checkpoint that does not say was trained with.
UNSAID = {"batch_parts": 1, "objective": "elbo", "particles": 1}


class Spec(NamedTuple):
    """What is trained: the arguments of `Vae.build`, and the schedule of the learning rate.

    The defaults are the appendix's autoencoder, which is also what an old checkpoint holds that
    does not say otherwise.
    """

    latent_dim: int
    architecture: str = "appendix"
    num_classes: int = 0
    guide: str = "mean_field"
    prior: str = "standard"
    schedule: str = "constant"


def load_or_train(
    args: argparse.Namespace,
    data: Dataset,
    spec: Spec,
    name: str | None = None,
    path: Path | None = None,
    **changed: object,
) -> Vae:
    """Return the autoencoder of `spec` on `args.device`: from its checkpoint, or trained now.

    The checkpoint is `path`, or RESULTS/checkpoints/name.pt (by default dN.pt). A checkpoint that
    was trained otherwise than the given options and `spec` ask for is an InputError. `changed` has
    training options that the script sets itself. The config has the history of the training.
    """
    given = {option: getattr(args, option) for option in args.given} | changed
    settings = training_settings(args, **changed)
    device = check_device(args.device)
    named = path is not None
    path = path or results_root(args, data) / "checkpoints" / f"{name or f'd{spec.latent_dim}'}.pt"
    if os.path.isdir(path):  # Path's own fails for names that are too long
        raise InputError(f"--checkpoint {path} is a folder: name a file")
    trained, begun = os.path.exists(path), os.path.exists(_state_path(path))
    if named and not (trained or begun or args.train or args.resume):
        raise InputError(f"--checkpoint {path} is not a file: name another, or add --train")
    if trained and not args.train and not (args.resume and begun):
        return _load_matching(path, spec, given, data).to(device)
    return _train_and_save(args, data, spec, settings, path, device)


def _state_path(path: Path) -> Path:
    """Return where the training state of the checkpoint at `path` is kept."""
    name = path.stem if path.suffix in (".pt", ".pth") else path.name
    return path.with_name(f"{name}.training.pt")


def _load_matching(path: Path, spec: Spec, given: dict, data: Dataset) -> Vae:
    """Load a checkpoint; raise InputError unless it is of `spec`, `given` options and `data`."""
    vae = Vae.load(path)
    if given.get("precision") == "auto":
        given = {option: value for option, value in given.items() if option != "precision"}
    stored = Spec(0)._asdict() | UNSAID | vae.config
    for option, value in (given | spec._asdict() | {"dataset": data.name}).items():
        if stored.get(option) != value:
            raise InputError(
                f"{path} was trained with {option}={stored.get(option)}, not {value}: "
                "add --train to train afresh, or name another --checkpoint"
            )
    print(f"autoencoder: {path}, of {vae.config['dataset']}, epochs: {vae.config.get('epochs')}")
    return vae


def _train_and_save(
    args: argparse.Namespace,
    data: Dataset,
    spec: Spec,
    settings: dict,
    path: Path,
    device: torch.device,
) -> Vae:
    """Train the autoencoder of `spec`, or go on with its training, and save it at `path`."""
    schedule = spec.schedule
    build = {option: value for option, value in spec._asdict().items() if option != "schedule"}
    torch.manual_seed(settings["seed"])
    vae = Vae.build(**build, precision=settings["precision"])
    check_folder(path.parent)
    check_batch_parts(settings["batch_parts"], len(data.train_images), settings["batch_size"])
    first = parallel.rank() == 0
    state_path = _state_path(path)
    with lock_file(path, state_path) if first else nullcontext():
        if os.path.exists(state_path) and not (args.train or args.resume):
            raise InputError(
                f"{state_path} is of an earlier training, and {path} is not there: add --resume, "
                "with the same options, to take it up, or delete it to train afresh"
            )
        print(
            f"autoencoder: training {state_path.name.removesuffix('.training.pt')} on {data.name}, "
            f"epochs: {settings['epochs']}"
        )
        if args.train and not args.resume and first:
            state_path.unlink(missing_ok=True)  # or a later --resume would go on with it
        vae.to(device)
        train, test = (
            tuple(tensor.to(device) for tensor in (x, y)[: 2 if spec.num_classes else 1])
            for x, y in (
                (data.train_images, data.train_labels),
                (data.test_images, data.test_labels),
            )
        )
        history = fit(
            vae.model,
            vae.guide,
            train,
            test,
            state_path=state_path,
            resume=args.resume,
            schedule=schedule,
            must_match={"dataset": data.name, "precision": settings["precision"]},
            **fit_options(settings),
        )
        vae.config = {"dataset": data.name, **spec._asdict(), **settings, "history": history}
        vae.config["provenance"] = provenance()
        stored = _stored_config(path, vae) if args.resume else {}
        if UNSAID | stored | {"provenance": None} == vae.config | {"provenance": None}:
            vae.config = stored  # nothing was left to train: it stays what an earlier run made
        elif first:
            vae.save(path)
            print(f"autoencoder: saved to {path}")
    return vae


def _stored_config(path: Path, vae: Vae) -> dict:
    """Return the config of the checkpoint at `path`, if it can be read and has these weights."""
    try:
        stored = Vae.load(path)
    except InputError:
        return {}
    same = fingerprint(stored.model, stored.guide) == fingerprint(vae.model, vae.guide)
    return stored.config if same else {}


def trained_classifier(args: argparse.Namespace, data: Dataset) -> Classifier:
    """Return the independent classifier of the data set: from its checkpoint, or trained now."""
    path = results_root(args, data) / "checkpoints" / "classifier.pt"
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
