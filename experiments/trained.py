"""A trained autoencoder for a script: from its checkpoint, or trained now."""

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch

from experiments.cli import TRAINING, check_device, fit_options, results_root, training_settings
from experiments.record import provenance
from pyro_vae import parallel
from pyro_vae.analysis.judges import Classifier, train_classifier
from pyro_vae.data.dataset import Dataset
from pyro_vae.data.loading import DATASETS
from pyro_vae.errors import InputError
from pyro_vae.storage.files import check_folder, lock_file
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.tensors import (
    blaming,
    check_replaceable,
    load_tensors,
    load_weights,
    save_tensors,
)
from pyro_vae.training.fit import check_batch_parts, fit
from pyro_vae.vae import CHECKPOINT, Vae

# The results of record, from whatever folder a script is called: their autoencoders are read.
RECORD = Path(__file__).parents[1] / "results"

# What a checkpoint that does not say was trained with.
UNSAID = {"schedule": "constant", "batch_parts": 1, "objective": "elbo", "particles": 1}


class Spec(NamedTuple):
    """What is trained: the arguments of `Vae.build`.

    The defaults are the appendix's autoencoder, which is also what an old checkpoint holds that
    does not say otherwise.
    """

    latent_dim: int
    architecture: str = "appendix"
    num_classes: int = 0
    guide: str = "mean_field"
    prior: str = "standard"


def load_or_train(
    args: argparse.Namespace,
    data: Dataset,
    spec: Spec,
    name: str | None = None,
    path: Path | None = None,
    **changed: object,
) -> Vae:
    """Return the autoencoder of `spec` on `args.device`: one that is there, or one trained now.

    It is the checkpoint `path`, if that is given; else RESULTS/checkpoints/name.pt (by default
    dN.pt); else, unless `--train` asks for one of the user's own, that of the same name in the
    results of record. With `--train --resume` too an own one is used, unless its training was
    stopped. One that was trained otherwise than the given options and `spec` ask for is
    an InputError; where it is the one of record, another is trained. What is trained is written
    below RESULTS: any other file is only read. `changed` has training options that the script sets
    itself. The config has the history of the training.
    """
    given = {option: getattr(args, option) for option in TRAINING if option in args.given} | changed
    settings = training_settings(args, **changed)
    settings["precision"] = parallel.by_first(lambda: settings["precision"])  # its own best
    device = check_device(args.device)
    name = name or f"d{spec.latent_dim}"
    wanted = given | spec._asdict() | {"dataset": data.name}
    settable = {*vars(args)} - {*changed}  # what the user may ask for
    # of several processes the first alone has the files
    vae = parallel.by_first(lambda: _found(args, data, name, path, wanted, settable))
    if vae is None:
        own = own_checkpoint(args, data, name)
        parallel.by_first(lambda: _check_place(args.results, path, own))
        vae = _train_and_save(args, data, spec, settings, path or own, device)
    return vae.to(device)


def own_checkpoint(args: argparse.Namespace, data: Dataset, name: str) -> Path:
    """Return where the user's autoencoder of this name is, or will be."""
    return results_root(args, data) / "checkpoints" / f"{name}.pt"


def checkpoint_there(
    args: argparse.Namespace, data: Dataset, name: str, path: Path | None
) -> Path | None:
    """Return the checkpoint that is used unless one is trained: `path`, own, or of record."""
    own = own_checkpoint(args, data, name)
    places = [path] if path else [own, RECORD / own.relative_to(args.results)]
    return next((place for place in places if os.path.exists(place)), None)


def _found(
    args: argparse.Namespace,
    data: Dataset,
    name: str,
    named: Path | None,
    wanted: dict,
    settable: set[str],
) -> Vae | None:
    """Return the autoencoder that is there, or None where one is to be trained."""
    path = named or own_checkpoint(args, data, name)
    if os.path.isdir(path):  # Path's own fails for names that are too long
        raise InputError(f"--checkpoint {path} is a folder: name a file")
    inside = _may_write(args.results, path)
    begun = inside and os.path.exists(_state_path(path))
    there = checkpoint_there(args, data, name, named)
    kept = inside and args.train and args.resume and not begun and there == path
    if (args.train and not kept) or (begun and (args.resume or there != path)):
        return None
    if not there:
        if named and not (inside and args.resume):
            mend = "add --train to train it" if inside else "leave out --checkpoint"
            raise InputError(
                f"--checkpoint {path} is not a file, seen from the working directory "
                f"{os.getcwd()}: give its full path, name another, or {mend}"
            )
        return None
    vae = Vae.load(there)
    other = _differences(vae, wanted)
    if there == path and other:
        raise InputError(_how_it_differs(path, other) + _remedy(args, named, path, other, settable))
    if other:
        print(f"autoencoder: {_how_it_differs('the one of record', other)}")
        return None
    print(f"autoencoder: {there}, of {vae.config['dataset']}, epochs: {vae.config.get('epochs')}")
    if kept:
        print(
            "autoencoder: that is there, and there is no training of it to go on with; --train "
            "without --resume trains another in its place"
        )
    if there != path:
        print(f"autoencoder: that is the one of record; --train trains your own, {path}")
    return vae


def _lies_in(folder: Path, path: Path) -> bool:
    """Whether `path` is below `folder`, with all links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _may_write(results: Path, path: Path) -> bool:
    """Whether `path` is below `results`, and of record only where `results` is of record too."""
    of_record = _lies_in(RECORD, path) and not _lies_in(RECORD, results)
    return _lies_in(results, path) and not of_record


def _check_place(results: Path, named: Path | None, own: Path) -> None:
    """Raise InputError if training would write a file that is not the user's to write.

    Its two files are the checkpoint, `named` or else `own`, and the training state. What is there
    and is no checkpoint is kept.
    """
    path = named or own
    for file in (path, _state_path(path)):
        if _may_write(results, file):
            continue
        if _lies_in(results, file):
            why = f"is of record, which --results {results} is not, and nothing is trained there"
        else:
            why = f"is not in --results {results}, and nothing is trained elsewhere"
        if path == own:
            on_the_way = [place for place in file.parents if place.is_relative_to(results)]
            places = (*reversed(on_the_way), file)
            link = next(place for place in places if not _may_write(results, place))
            mend = f"remove the link {link}, or name another --results"
        else:
            mend = f"leave out --checkpoint (it will be {own}), or name another file in {results}"
        raise InputError(f"{os.path.realpath(file)} {why}: {mend}")
    if named and not os.path.exists(_state_path(named)):  # else it is of a training of ours
        check_replaceable(named, "a checkpoint", CHECKPOINT)


def _state_path(path: Path) -> Path:
    """Return where the training state of the checkpoint at `path` is kept."""
    name = path.stem if path.suffix in (".pt", ".pth") else path.name
    return path.with_name(f"{name}.training.pt")


def _differences(vae: Vae, wanted: dict) -> dict[str, tuple[object, object]]:
    """Return what `vae` was trained with otherwise than `wanted`: option, its value, wanted's."""
    stored = Spec(0)._asdict() | UNSAID | vae.config
    return {
        option: (stored.get(option), value)
        for option, value in wanted.items()
        if stored.get(option) != value and (option, value) != ("precision", "auto")
    }


def _how_it_differs(which: object, other: dict[str, tuple[object, object]]) -> str:
    pairs = [f"{option}={stored}, not {value}" for option, (stored, value) in other.items()]
    return f"{which} was trained with {'; '.join(pairs)}"


def _remedy(
    args: argparse.Namespace,
    named: Path | None,
    path: Path,
    other: dict[str, tuple[object, object]],
    settable: set[str],
) -> str:
    """Say what to do about a checkpoint that differs; never to replace one of somebody else's."""
    unsaid = [f"config[{option!r}]" for option, (stored, _) in other.items() if stored is None]
    if unsaid:
        ask = f": set {' and '.join(unsaid)} of its Vae and save it again, or "
    else:
        options = [_option(o, stored) if o in settable else "" for o, (stored, _) in other.items()]
        ask = f": give {' '.join(options)} to use it, or " if all(options) else ": "
    if not _may_write(args.results, path):
        return ask + ("leave out --checkpoint" if named else "name another --results")
    if _lies_in(RECORD, path):
        return f"{ask}name another --results, to train one there"
    afresh = "leave out --resume" if args.train else "add --train"
    return f"{ask}{afresh} to train afresh in its place, or name another --results"


def _option(name: str, stored: object) -> str:
    """Return the words that ask for the stored value of an option, "" where none do."""
    if name == "dataset" and stored not in DATASETS:
        words = "--dataset folder:PATH, with the same images and folder name,"
        return words if str(stored).startswith("folder-") else ""
    return f"--{name.replace('_', '-')} {stored}"


def _train_and_save(
    args: argparse.Namespace,
    data: Dataset,
    spec: Spec,
    settings: dict,
    path: Path,
    device: torch.device,
) -> Vae:
    """Train the autoencoder of `spec`, or go on with its training, and save it at `path`."""
    torch.manual_seed(settings["seed"])
    vae = Vae.build(**spec._asdict(), precision=settings["precision"])
    parallel.by_first(lambda: check_folder(path.parent))
    check_batch_parts(settings["batch_parts"], len(data.train_images), settings["batch_size"])
    first = parallel.rank() == 0
    state_path = _state_path(path)
    with ExitStack() as locked:
        lock = lock_file(path, state_path)
        parallel.by_first(lambda: locked.enter_context(lock))
        begun = parallel.by_first(lambda: _begin(args, path, state_path))
        doing = "going on with" if begun else "training"
        print(f"autoencoder: {doing} {path} on {data.name}, epochs: {settings['epochs']}")
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
            must_match={"dataset": data.name, "precision": settings["precision"]},
            **fit_options(settings),
        )
        vae.config = {"dataset": data.name, **spec._asdict(), **settings, "history": history}
        vae.config["provenance"] = provenance()
        stored = _stored_config(path, vae) if args.resume and first else {}
        if UNSAID | stored | {"provenance": None} == vae.config | {"provenance": None}:
            vae.config = stored  # nothing was left to train: it stays what an earlier run made
            print("autoencoder: it was trained already")
        elif first:
            vae.save(path)
            print(f"autoencoder: saved to {path}")
    return vae


def _begin(args: argparse.Namespace, path: Path, state_path: Path) -> bool:
    """Return whether there is a training to go on with; delete one that is trained afresh."""
    begun = os.path.exists(state_path)
    if begun and not (args.train or args.resume):
        raise InputError(
            f"{state_path} is of an earlier training, and {path} is not there: add --resume, "
            "with the same options, to take it up, or --train to train afresh"
        )
    if begun and not args.resume:
        state_path.unlink()  # or a later --resume would go on with it
    return begun and args.resume


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
    classifier = Classifier(len(data.classes))
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
