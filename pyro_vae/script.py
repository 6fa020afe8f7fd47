"""What the experiment scripts share: options, data, a trained autoencoder, results, errors."""

import argparse
import ctypes
import io
import json
import math
import os
import platform
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
import torch

from pyro_vae import parallel
from pyro_vae.checkpoints import (
    build_vae,
    fingerprint,
    load_tensors,
    load_vae,
    load_weights,
    save_tensors,
    save_vae,
    using,
)
from pyro_vae.classifier import Classifier, train_classifier
from pyro_vae.data import Dataset, NoData, load_dataset
from pyro_vae.errors import InputError
from pyro_vae.files import check_folder, only_writer, whole_file
from pyro_vae.guides import Amortised
from pyro_vae.models import Model
from pyro_vae.networks import check_latent_dim, resolve_precision
from pyro_vae.plots import STYLE
from pyro_vae.training import (
    Interrupted,
    TrainingError,
    check_shards,
    check_training_options,
    fit,
)

PACKAGES = ("torch", "torchvision", "pyro-ppl", "arviz", "numpy", "scipy", "scikit-learn")

# The training options and their defaults: the appendix's settings.
TRAINING = {
    "epochs": 10,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "precision": "auto",
    "seed": 0,
    "shards": 1,
}


# What a checkpoint that does not say otherwise holds: the appendix's autoencoder, as it trains it.
APPENDIX = {
    "architecture": "appendix",
    "classes": 0,
    "guide": "mean_field",
    "prior": "standard",
    "decay": False,
    "shards": 1,
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> None:
        """Print the one line and exit with code 2."""
        self.exit(2, f"error: {message} (see --help)\n")


def make_parser(
    description: str, latent_dim: int | None = 4, **training: object
) -> argparse.ArgumentParser:
    """A parser of the options that every question script has.

    A script about one autoencoder, of `latent_dim` dimensions unless asked otherwise, has
    `--latent-dim` and `--checkpoint` too; `latent_dim` is None for one that compares several.
    `training` has the script's own defaults, where they are not those of TRAINING.
    """
    parser = Parser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    data = parser.add_argument_group("data and results")
    data.add_argument(
        "--dataset",
        choices=["mnist", "digits", "auto"],
        default="mnist",
        help="digits: scikit-learn's, which need no download; auto: MNIST if it can be had",
    )
    data.add_argument("--data-root", type=Path, help="folder of MNIST/raw (PYRO_VAE_DATA, data/)")
    data.add_argument("--results", type=Path, default=Path("results"), help="folder to write to")
    data.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    train = parser.add_argument_group("training (only where there is no checkpoint yet)")
    if latent_dim is None:
        parser.set_defaults(checkpoint=None)
    else:
        parser.add_argument("--latent-dim", type=int, default=latent_dim, help="dimensions of z")
        train.add_argument("--checkpoint", type=Path, help="weights (in RESULTS/checkpoints)")
    train.add_argument("--train", action="store_true", help="train even if there is a checkpoint")
    train.add_argument(
        "--resume", action="store_true", help="go on with a training that stopped, if there is one"
    )
    for name, default in (TRAINING | training).items():
        train.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=training.get(name, argparse.SUPPRESS),  # a default can be told from a wish
            help="for this question" if name in training else f"(default: {default})",
        )
    return parser


def run(main: Callable[[], None]) -> None:
    """Run a script: its errors are one line on stderr and an exit code, never a traceback."""
    keep_memory()
    mpl.rcParams.update(STYLE)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the script
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the end
        elif isinstance(stream, io.TextIOWrapper):  # no minus sign stops a script in ASCII
            stream.reconfigure(errors="replace")
    try:
        main()
        sys.stdout.flush()
    except InputError as error:
        _end(2, f"error: {error}")
    except TrainingError as error:
        _end(1, f"error: {error}")
    except Interrupted as stop:
        _end(130, str(stop))
    except KeyboardInterrupt:
        _end(130, "stopped")
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_has_gone():
            sys.exit(128 + signal.SIGPIPE)
        what = f"{error.filename}: " if error.filename else ""
        _end(
            2 if what else 1, f"error: {what}{error.strerror or error}; name another file or folder"
        )
    except (MemoryError, RuntimeError) as error:
        of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not of_memory and "can't allocate memory" not in str(error):
            raise
        _end(1, "error: there is not enough memory: ask for fewer dimensions, samples or images")


def _reader_has_gone() -> bool:
    """Whether whoever read the output has seen enough of it; what is left is then thrown away."""
    output = select.poll()
    output.register(1, 0)  # asks for nothing: only a broken pipe is told
    gone = bool(output.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return gone


def _end(code: int, message: str) -> None:
    """End the script with its exit code, and what there is to say on stderr."""
    print(message, file=sys.stderr)
    sys.exit(code)


def keep_memory() -> None:
    """Let glibc's allocator keep freed memory, where there is one; otherwise do nothing.

    By default each activation of several MB is given back to the system when it is freed and
    faulted in again, page by page, at the next step: a third of the time of a training step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):
        return
    m_trim_threshold, m_mmap_threshold = -1, -3  # from malloc.h
    mallopt(m_mmap_threshold, 2**30)
    mallopt(m_trim_threshold, 2**31 - 1)


def begin(args: argparse.Namespace, what: str) -> Dataset:
    """The data set asked for, after a look at the options of `make_parser` and a word on `what`.

    So that a wrong option is known, and the reader knows what is to come, before a download. Only
    `--dataset auto` falls back to the digits, and says so loudly. Results on the digits go to a
    subfolder of `args.results`, and never replace those on MNIST.
    """
    check_device(args.device)
    check_latent_dim(getattr(args, "latent_dim", 1))
    training_settings(args)
    print(what)
    try:
        data = load_dataset("mnist" if args.dataset == "auto" else args.dataset, args.data_root)
    except NoData as error:  # and not one that is there and damaged
        if args.dataset != "auto":
            raise
        banner = "*" * 88
        print(
            f"{banner}\nNO MNIST: {error}.\n"
            f"Going on with scikit-learn's 1,797 small digits: the figures show THEM.\n{banner}",
            file=sys.stderr,
        )
        data = load_dataset("digits")
    if data.name != "mnist":
        args.results = args.results / data.name
    return data


def training_settings(args: argparse.Namespace) -> dict:
    """The training options, those asked for and the defaults of the others, checked."""
    settings = {option: getattr(args, option, value) for option, value in TRAINING.items()}
    precision = resolve_precision(settings.pop("precision"), args.device)
    check_training_options(**settings)
    return settings | {"precision": precision}


def check_least(option: str, value: int, least: int) -> None:
    """Raise InputError unless the value of an option is `least` or more."""
    if value < least:
        raise InputError(f"{option} must be >= {least}, not {value}")


def leave_out(parser: argparse.ArgumentParser, args: argparse.Namespace, *names: str) -> None:
    """Raise InputError if one of these options was given to a script that sets it itself."""
    for name in names:
        default = parser.get_default(name)
        if getattr(args, name, default) != default:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option}: this script sets it itself: leave it out")


def check_device(name: str) -> torch.device:
    """The device of `--device name`, if this machine has it; else an `InputError`."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name!r} is unknown: use cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and name != "cpu"):
        raise InputError(f"--device {name!r} is not supported: use cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name!r} is not on this machine: use --device cpu")
    return device


def result_folder(args: argparse.Namespace, name: str, latent_dim: int = 4) -> Path:
    """RESULTS/name, or RESULTS/name_dN for another number of dimensions than `latent_dim`."""
    return args.results / (name if args.latent_dim == latent_dim else f"{name}_d{args.latent_dim}")


def trained_vae(
    args: argparse.Namespace,
    data: Dataset,
    latent_dim: int,
    name: str | None = None,
    architecture: str = "appendix",
    classes: int = 0,
    guide_name: str = "mean_field",
    prior: str = "standard",
    decay: bool = False,
) -> tuple[Model, Amortised, dict]:
    """An autoencoder with `latent_dim` dimensions: from its checkpoint, or trained now.

    The checkpoint is RESULTS/checkpoints/name.pt (by default dN.pt) unless `--checkpoint` says
    otherwise. With `classes` > 0 model and guide take the labels too; `decay` is `fit`'s. Returns
    both on `args.device`, and the config with the training's history.
    """
    device = check_device(args.device)
    asked = {option: getattr(args, option) for option in TRAINING if hasattr(args, option)}
    settings = training_settings(args)
    kind = {
        "latent_dim": latent_dim,
        "architecture": architecture,
        "classes": classes,
        "guide": guide_name,
        "prior": prior,
        "decay": decay,
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
        latent_dim, settings["precision"], architecture, classes, guide_name, prior
    )
    check_folder(path.parent)
    check_shards(settings["shards"], len(data.train_images), settings["batch_size"])
    with only_writer(path) if parallel.rank() == 0 else nullcontext():
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
            tuple(rows.to(device) for rows in (images, labels)[: 2 if classes else 1])
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
            decay=decay,
            same={"dataset": data.name, "precision": settings["precision"]},
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
        with using(path):
            if content["config"]["dataset"] != data.name:
                raise InputError(f"{path} was trained on other data than {data.name}: delete it")
            load_weights(classifier, content["classifier"], path)
        return classifier.eval()
    check_folder(path.parent)
    classifier = train_classifier(data)
    config = {"dataset": data.name, "provenance": provenance()}
    save_tensors(path, {"classifier": classifier.state_dict(), "config": config})
    return classifier


def provenance() -> dict[str, object]:
    """What a result depends on beside its options: versions, git revision, machine."""
    git = ["git", "-C", str(Path(__file__).parents[1])]

    def ask(*words: str) -> str:
        return subprocess.run(
            [*git, *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        revision = ask("rev-parse", "--short=12", "HEAD")
        # changed code, not changed results: a run rewrites those
        revision += "-dirty" if ask("status", "--porcelain", "--", "*.py") else ""
    except (OSError, subprocess.SubprocessError):
        revision = "unknown"
    return {
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
        "git": revision,
        "processor": getattr(torch.cpu, "get_capabilities", dict)().get("cpu_name", "unknown"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        # of what is left to "auto" and runs on this processor
        "precision": resolve_precision("auto"),
    }


def save_metrics(
    path: Path, metrics: dict, args: argparse.Namespace, data: Dataset, config: dict
) -> None:
    """Write `metrics` as JSON, with the data set, the options, the training and the versions."""
    # but for where the results lie, which says nothing of them
    given = {k: v for k, v in vars(args).items() if k != "results"}
    options = {k: str(v) if isinstance(v, Path) else v for k, v in given.items()}
    content = {
        "dataset": data.name,
        **metrics,
        "options": options,
        "training": config,
        "provenance": provenance(),
    }
    with whole_file(path) as partial:
        partial.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(value: object) -> object:
    """`value` with NaN and infinities as null: JSON has no others."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
