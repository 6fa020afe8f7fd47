"""MNIST, and scikit-learn's digits as its stand-in, held in memory as tensors."""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits as sklearn_digits
from torch import Tensor
from torch.nn import functional
from torchvision.datasets import mnist

from pyro_vae.errors import InputError, check_choice, checked


class NoData(InputError):
    """The data set is not on this machine and cannot be downloaded. The message says what to do."""


# MD5 of the four uncompressed files. torchvision knows only those of the compressed downloads,
# and checks nothing when the uncompressed ones are already there.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
RAW = Path("MNIST", "raw")  # torchvision's layout below the data folder


class Dataset(NamedTuple):
    """Images in [0, 1] with shape `(N, 1, 28, 28)`, float32, and labels 0..9 with shape `(N,)`."""

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@checked
def load_dataset(name: str = "mnist", root: str | Path | None = None) -> Dataset:
    """Load the data set called `name`, "mnist" or "digits"."""
    check_choice(("mnist", "digits"), dataset=name)
    return load_mnist(root) if name == "mnist" else load_digits()


@checked
def data_root(root: str | Path | None = None) -> Path:
    """Return the data folder: `root`, else the environment variable PYRO_VAE_DATA, else data/."""
    return Path(root or os.environ.get("PYRO_VAE_DATA") or "data")


def load_mnist(root: str | Path | None = None) -> Dataset:
    """Load MNIST from the data folder; download it if absent, and check its checksums."""
    root = data_root(root)
    if not all(os.path.isfile(root / RAW / name) for name in MNIST_MD5):
        _download_mnist(root)
    check_mnist(root)
    # not by torchvision's class MNIST: it prefers files of its old layout, which nothing checks
    read_images, read_labels = mnist.read_image_file, mnist.read_label_file
    return Dataset(
        "mnist",
        _unit_interval(read_images(root / RAW / "train-images-idx3-ubyte"), 255),
        read_labels(root / RAW / "train-labels-idx1-ubyte"),
        _unit_interval(read_images(root / RAW / "t10k-images-idx3-ubyte"), 255),
        read_labels(root / RAW / "t10k-labels-idx1-ubyte"),
    )


def check_mnist(root: Path) -> None:
    """Raise InputError unless each of MNIST's four files is the known one, bit for bit."""
    for name, known in MNIST_MD5.items():
        path = root / RAW / name
        try:
            md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        except OSError as error:
            raise InputError(
                f"cannot read {path}: {error.strerror}; name another folder by root="
            ) from error
        if md5 != known:
            raise InputError(
                f"{path} is not MNIST's file (MD5 {md5}, not {known}): "
                "delete it to have it downloaded again"
            )


def _download_mnist(root: Path) -> None:
    """Download MNIST to one side, then rename its files: a kill leaves no half file."""
    made = not os.path.exists(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as partial:
            mnist.MNIST(partial, download=True)
            (root / RAW).mkdir(parents=True, exist_ok=True)
            for name in MNIST_MD5:
                os.replace(Path(partial) / RAW / name, root / RAW / name)
    except (OSError, RuntimeError) as error:  # no network, no space, mirrors down
        if made:
            with suppress(OSError):
                root.rmdir()
        raise NoData(
            f"MNIST is not in {root} and cannot be downloaded ({' '.join(str(error).split())}): "
            "name the folder that holds MNIST/raw by root= or PYRO_VAE_DATA, "
            'or choose name="digits"'
        ) from error


def load_digits() -> Dataset:
    """Load scikit-learn's 8x8 digits, scaled to 28x28: 1,500 to train on, 297 to test on."""
    digits = sklearn_digits()
    small = _unit_interval(torch.from_numpy(digits.images), 16)
    images = functional.interpolate(small, size=(28, 28), mode="bilinear").clamp(0, 1)
    labels = torch.from_numpy(digits.target)
    return Dataset(
        "digits",
        images[:1500],
        labels[:1500],
        images[1500:],
        labels[1500:],
    )


def _unit_interval(pixels: Tensor, white: int) -> Tensor:
    """Scale grey levels 0..white, `(N, H, W)`, to float32 in [0, 1], `(N, 1, H, W)`."""
    return pixels.float().div(white).unsqueeze(1)
