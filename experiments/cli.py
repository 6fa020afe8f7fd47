"""What the experiment scripts share: options, data, errors."""

import argparse
import ctypes
import io
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import torch

from pyro_vae.analysis.plots import RC_PARAMS
from pyro_vae.data import Dataset, NoData, load_dataset
from pyro_vae.errors import InputError
from pyro_vae.networks.checks import check_latent_dim
from pyro_vae.networks.precision import resolve_precision
from pyro_vae.training.fit import check_training_options
from pyro_vae.training.stopping import Interrupted, TrainingError

# The training options and their defaults: the appendix's settings.
TRAINING = {
    "epochs": 10,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "precision": "auto",
    "seed": 0,
    "batch_parts": 1,
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


def announce_and_load(args: argparse.Namespace, what: str) -> Dataset:
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


def check_at_least(option: str, value: int, least: int) -> None:
    """Raise InputError unless the value of an option is `least` or more."""
    if value < least:
        raise InputError(f"{option} must be >= {least}, not {value}")


def reject_options(parser: argparse.ArgumentParser, args: argparse.Namespace, *names: str) -> None:
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
