"""The data sets by their names."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits as sklearn_digits
from torch.nn import functional

from pyro_vae.data.dataset import Dataset, unit_interval
from pyro_vae.data.folder import load_images
from pyro_vae.data.mnist_family import load_member
from pyro_vae.errors import InputError, check_choice, checked

# What each name stands for, as a figure says it.
DATASETS = {
    "mnist": "MNIST",
    "digits": "scikit-learn's digits, NOT MNIST",
    "fashion-mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
    "emnist-letters": "EMNIST, letters",
    "emnist-balanced": "EMNIST, balanced",
    "emnist-digits": "EMNIST, digits",
}
FOLDER = "folder:"  # and then a path


@checked
def load_dataset(name: str = "mnist", root: str | Path | None = None) -> Dataset:
    """Load the data set called `name`: "mnist", "digits", "fashion-mnist", "kmnist", "qmnist", ...

    "emnist" is its letters, "emnist-letters"; "emnist-balanced" has digits and letters, and
    "emnist-digits" digits. "folder:PATH" is a folder of image files, read by `load_images`. All
    but "digits" and folders are downloaded into the data folder: `root`, else the environment
    variable PYRO_VAE_DATA, else data/.

    >>> from pyro_vae import load_dataset
    >>> load_dataset("digits").train_images.shape
    torch.Size([1500, 1, 28, 28])
    """
    name = dataset_name(name)
    if name.startswith(FOLDER):
        return load_images(name.removeprefix(FOLDER))
    return load_digits() if name == "digits" else load_member(name, root)


def dataset_name(name: str) -> str:
    """Return `name` as DATASETS has it: "FashionMNIST", "fashion_mnist" and such are taken too."""
    if name.startswith(FOLDER):
        if name == FOLDER:
            raise InputError(f"dataset {FOLDER!r} names no folder: write {FOLDER}PATH")
        return name
    plain = {_letters(known): known for known in DATASETS} | {"emnist": "emnist-letters"}
    if _letters(name) not in plain:
        check_choice([*DATASETS, f"{FOLDER}PATH"], dataset=name)
    return plain[_letters(name)]


def _letters(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def load_digits() -> Dataset:
    """Load scikit-learn's 8x8 digits, scaled to 28x28: 1,500 to train on, 297 to test on."""
    digits = sklearn_digits()
    small = unit_interval(torch.from_numpy(digits.images), 16)
    images = functional.interpolate(small, size=(28, 28), mode="bilinear").clamp(0, 1)
    labels = torch.from_numpy(digits.target)
    return Dataset(
        "digits",
        images[:1500],
        labels[:1500],
        images[1500:],
        labels[1500:],
    )
