"""What the scripts share on the command line: options, the data set, errors as one line."""

import argparse
import io
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import matplotlib as mpl
import torch

from pyro_vae.analysis.plots import RC_PARAMS
from pyro_vae.data.dataset import Dataset, NoData, hold_out
from pyro_vae.data.loading import DATASETS, dataset_name, load_dataset
from pyro_vae.errors import InputError, LostProcess, check_counts
from pyro_vae.memory import keep_memory
from pyro_vae.networks.precision import resolve_precision
from pyro_vae.training.fit import check_training_options
from pyro_vae.training.objectives import OBJECTIVES, objective
from pyro_vae.training.schedules import SCHEDULES
from pyro_vae.training.stopping import Interrupted, TrainingError

# The training options and their defaults: the appendix's settings.
TRAINING = {
    "epochs": 10,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "precision": "auto",
    "seed": 0,
    "batch_parts": 1,
    "objective": "elbo",
    "particles": None,  # as many as the objective takes by default
}
HELP = {
    "epochs": "times that each training image is seen",
    "batch_size": "images in a training step",
    "learning_rate": "of Adam, or its peak in one_cycle",
    "schedule": "of the learning rate over all epochs: constant, cosine or one_cycle",
    "precision": "float32, bfloat16, or auto: bfloat16 where the hardware multiplies it natively",
    "seed": "of the first weights and of everything random in the training",
    "batch_parts": "parts of a batch, each with a seed of its own, that several processes share",
    "objective": "bound to maximise, and estimator of its gradient: elbo, iwae, stl or dreg",
    "particles": "draws of each image's latent in a step",
}
CHOICES = {"objective": OBJECTIVES, "schedule": SCHEDULES}
SHOWN = {"particles": "1; of iwae and dreg 8"}  # in place of a default that is not one value

# What the package's messages call an argument, and the option of the scripts that sets it.
OPTIONS = {
    "resume=True": "--resume",
    "root=": "--data-root",
    "num_particles": "--particles",
    'name="digits"': "--dataset digits",
    'device="cuda"': "--device cuda",
    'device="cpu"': "--device cpu",
} | {
    f"{name} must be": f"--{name.replace('_', '-')} must be"
    for name in (*TRAINING, "latent_dim", "guide_epochs", "seeds", "hold_out")
}

DEVICES = "cpu, cuda, cuda:N or mps"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and that refuses the options in `fixed`."""

    fixed: Collection[str] = ()

    def error(self, message: str) -> None:
        """Print the one line and exit with code 2."""
        self.exit(2, f"error: {message} (see --help)\n")

    def add_number(self, option: str, default: int, text: str, metavar: str = "N") -> None:
        """Add an option that takes a whole number; its help is the text and the default."""
        text = f"{text} (default: %(default)s)"
        self.add_argument(option, type=int, default=default, metavar=metavar, help=text)

    def parse_args(self, args: list[str] | None = None) -> argparse.Namespace:
        """Parse the options; `given` names the training options that user or script has set.

        A checkpoint must agree with those that are given, and may have any other.
        """
        parsed = super().parse_args(args)
        parsed.given = [name for name in TRAINING if hasattr(parsed, name)]
        reject_options(parsed, *self.fixed)
        for name, default in TRAINING.items():
            if name not in parsed.given:
                setattr(parsed, name, default)
        return parsed


def make_parser(
    description: str,
    latent_dim: int | None = 4,
    fixed: Collection[str] = (),
    **training: object,
) -> Parser:
    """Return a parser of the options that every question's script has.

    A script about one autoencoder, of `latent_dim` dimensions unless asked otherwise, has
    `--latent-dim` and `--checkpoint` too; `latent_dim` is None for one that compares several. The
    options in `fixed` the script sets itself: its --help leaves them out, and they are refused.
    `training` has the script's own defaults, where they are not those of TRAINING.
    """
    name = f"python -m {_module()}"
    parser = Parser(prog=name, usage=f"{name} [options]", description=description)
    parser.fixed = fixed
    _add_data_options(parser.add_argument_group("data and results"))
    of_one = latent_dim is not None
    if of_one:
        parser.add_number("--latent-dim", latent_dim, "dimensions of z", "D")
    found = (
        "An autoencoder that is in RESULTS/checkpoints is used; else the one of record, if it was "
        "trained as these options ask; else one is trained."
    )
    group = parser.add_argument_group("training", None if "train" in fixed else found)
    _add_training_options(group, of_one, fixed, TRAINING | training, given=training)
    return parser


def _add_data_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that say where from and where to."""
    group.add_argument(
        "--dataset",
        type=_dataset,
        default="mnist",
        metavar="NAME",
        help=f"{', '.join(DATASETS)}, or folder:PATH, a folder of image files, whose subfolders "
        "are the classes; auto: MNIST if it can be had, else digits, which need no download "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--data-root",
        type=Path,
        metavar="FOLDER",
        help="where MNIST/raw and the like are (default: the folder that PYRO_VAE_DATA names, "
        "else data)",
    )
    group.add_argument(
        "--hold-out",
        type=int,
        default=0,
        metavar="N",
        help="test on N training images, held out, to choose between settings (default: "
        "%(default)s, the test images)",
    )
    group.add_argument(
        "--results",
        type=Path,
        default=Path("runs"),
        help="folder to write to (default: %(default)s); results has those of record",
    )
    group.add_argument(
        "--device", default="cpu", help="cpu, cuda, cuda:1 and so on, or mps (default: %(default)s)"
    )


def _add_training_options(
    group: argparse._ArgumentGroup,
    of_one: bool,
    fixed: Collection[str],
    defaults: dict[str, object],
    given: Collection[str],
) -> None:
    """Add what says which autoencoder is used and how one is trained.

    The `defaults` of the options in `given` are the script's own.
    """

    def add(name: str, text: str, **options: object) -> None:
        said = argparse.SUPPRESS if name in fixed else text
        group.add_argument(f"--{name.replace('_', '-')}", help=said, **options)

    if of_one:
        add("checkpoint", "use the autoencoder in this file", type=Path, metavar="FILE")
    else:
        group.set_defaults(checkpoint=None)
    add("train", "train one in RESULTS, in place of one that is there", action="store_true")
    resume = "go on with a training that was stopped, if there is one"
    add("resume", resume, action="store_true")
    for name, default in defaults.items():
        add(
            name,
            f"{HELP[name]} (default: {SHOWN.get(name, default)})",
            type=int if default is None else type(default),
            choices=[*CHOICES[name]] if name in CHOICES else None,
            metavar={float: "X", str: name.upper()}.get(type(default), "N"),
            # absent unless given, so that a given option differs from a default
            default=default if name in given else argparse.SUPPRESS,
        )


def _dataset(name: str) -> str:
    """Return what `--dataset name` asks for, by its own name."""
    try:
        return name if name == "auto" else dataset_name(name)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _module() -> str:
    """Return the name by which `python -m` was asked for this script."""
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).stem


def run(main: Callable[[], None]) -> None:
    """Run a script: its errors are one line on stderr and an exit code, never a traceback."""
    keep_memory()
    mpl.rcParams.update(RC_PARAMS)
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
    except (TrainingError, LostProcess) as error:
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
    if not hasattr(select, "poll"):  # Windows, where pipes are not polled
        return False
    output = select.poll()
    output.register(1, 0)  # asks for nothing: only a broken pipe is told
    gone = bool(output.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return gone


def _end(code: int, message: str) -> None:
    """End the script with its exit code, and say why on stderr, by the options' names."""
    for argument, option in OPTIONS.items():
        message = re.sub(rf"(?<![\w-]){re.escape(argument)}", option, message)
    print(message, file=sys.stderr)
    sys.exit(code)


def announce_and_load(args: argparse.Namespace, what: str, labels: bool = False) -> Dataset:
    """Check the shared options, print `what` is to come, and return the data set asked for.

    In this order, so that a wrong option is known before a download. Only `--dataset auto` falls
    back to the digits, and says so loudly. Where `labels` are needed, two classes are the least.
    """
    check_device(args.device)
    check_counts(latent_dim=getattr(args, "latent_dim", 1))
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
    if labels and len(data.classes) < 2:
        raise InputError(
            f"--dataset {args.dataset}: this script compares classes: put the images of each class "
            "into a subfolder of its own, two at least"
        )
    if args.hold_out:
        data = hold_out(data, args.hold_out)
        print(f"test images: {args.hold_out:,} of the training images, held out of the training")
    return data


def results_root(args: argparse.Namespace, data: Dataset) -> Path:
    """Return the folder of all results on `data`: no other data's results replace MNIST's."""
    return args.results if data.name == "mnist" else args.results / data.name


def folder_name(args: argparse.Namespace, name: str, latent_dim: int = 4) -> str:
    """Return `name`, or name_dN for another number of dimensions than `latent_dim`."""
    return name if args.latent_dim == latent_dim else f"{name}_d{args.latent_dim}"


def training_settings(args: argparse.Namespace, **changed: object) -> dict:
    """Return the training options, checked, with those in `changed` in place of the given ones."""
    settings = {name: getattr(args, name) for name in TRAINING} | changed
    precision = resolve_precision(settings["precision"], args.device)
    options = fit_options(settings)
    particles = options.pop("elbo").num_particles
    check_training_options(**options)
    return settings | {"precision": precision, "particles": particles}


def fit_options(settings: dict) -> dict:
    """Return the training options as `fit` takes them, with the bound that the objective names."""
    options = {name: value for name, value in settings.items() if name != "precision"}
    return options | {"elbo": objective(options.pop("objective"), options.pop("particles"))}


def check_at_least(option: str, value: int, least: int) -> None:
    """Raise InputError unless the value of an option is `least` or more."""
    if value < least:
        raise InputError(f"{option} must be >= {least}, not {value}")


def reject_options(args: argparse.Namespace, *names: str) -> None:
    """Raise InputError if one of these options was given to a script that sets it itself."""
    for name in names:
        if name in args.given or (name not in TRAINING and getattr(args, name)):
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option}: this script sets it itself: leave it out")


def check_device(name: str) -> torch.device:
    """Return the device of `--device name`; raise InputError if this machine does not have it."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name!r} is unknown: use {DEVICES}") from error
    if name not in ("cpu", "mps") and device.type != "cuda":
        raise InputError(f"--device {name!r} is not supported: use {DEVICES}")
    if device.type == "mps":
        there = torch.backends.mps.is_available()
    else:
        there = device.type == "cpu" or (device.index or 0) < torch.cuda.device_count()
    if not there:
        raise InputError(f"--device {name!r} is not on this machine: use --device cpu")
    return device
