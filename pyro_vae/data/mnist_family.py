"""MNIST and the data sets in its format: FashionMNIST, KMNIST, QMNIST, EMNIST.

A data set of the family is four files, images and labels to train and to test on. The data folder
has them as torchvision lays them out: uncompressed, or as they are downloaded, which is read in
memory. Addresses, checksums and the names of the classes are torchvision's. Its classes are not
used to read: they check nothing that is there already, and prefer files of their old layout.
"""

import gzip
import hashlib
import os
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import mnist, utils

from pyro_vae.data.dataset import DIGITS, Dataset, NoData, unit_interval
from pyro_vae.errors import InputError, checked

# MD5 of MNIST's uncompressed files. torchvision knows only those of the downloads.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
QMNIST_FILES = (
    "qmnist-train-images-idx3-ubyte",
    "qmnist-train-labels-idx2-int",
    "qmnist-test-images-idx3-ubyte",
    "qmnist-test-labels-idx2-int",
)
EMNIST_ZIP = "gzip.zip"  # all of EMNIST in one download, each file compressed in its folder gzip/


class Member(NamedTuple):
    """A data set of the family."""

    source: type[mnist.MNIST]  # torchvision's class; its name is the folder's
    files: tuple[str, ...] = tuple(MNIST_MD5)  # train and test images and labels, in this order
    classes: tuple[str, ...] = DIGITS
    first_label: int = 0
    transposed: bool = False  # EMNIST's images are stored column by column


def _emnist(split: str, first_label: int = 0) -> Member:
    """Return a split of EMNIST, of which the letters are counted from 1."""
    files = (
        f"emnist-{split}-{part}-{kind}"
        for part in ("train", "test")
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    classes = mnist.EMNIST.classes_split_dict[split][first_label:]
    return Member(mnist.EMNIST, tuple(files), tuple(classes), first_label, transposed=True)


FAMILY = {
    "mnist": Member(mnist.MNIST),
    "fashion-mnist": Member(mnist.FashionMNIST, classes=tuple(mnist.FashionMNIST.classes)),
    "kmnist": Member(mnist.KMNIST, classes=tuple(mnist.KMNIST.classes)),
    "qmnist": Member(mnist.QMNIST, QMNIST_FILES),
    "emnist-letters": _emnist("letters", first_label=1),
    "emnist-balanced": _emnist("balanced"),
    "emnist-digits": _emnist("digits"),
}


@checked
def data_root(root: str | Path | None = None) -> Path:
    """Return the data folder: `root`, else the environment variable PYRO_VAE_DATA, else data/."""
    return Path(root or os.environ.get("PYRO_VAE_DATA") or "data")


def raw_folder(name: str, root: str | Path | None = None) -> Path:
    """Return where the files of the data set `name` lie, torchvision's layout: root/MNIST/raw."""
    return data_root(root) / FAMILY[name].source.__name__ / "raw"


def load_member(name: str, root: str | Path | None = None) -> Dataset:
    """Load the data set `name` from the data folder; download what is absent, and check it."""
    member, folder = FAMILY[name], raw_folder(name, root)
    if missing := missing_files(name, root):
        _check_not_astray(member, data_root(root), folder)
        _download(member, data_root(root), folder, missing)
    paths = {file: _find(member, folder, file) for file in member.files}
    for path in dict.fromkeys(paths.values()):
        _check(path, member)
    train = _read_part(member, paths, *member.files[:2])
    test = _read_part(member, paths, *member.files[2:])
    return Dataset(name, *train, *test, member.classes)


def missing_files(name: str, root: str | Path | None = None) -> list[str]:
    """Return which of the four files of the data set `name` are not in the data folder."""
    member, folder = FAMILY[name], raw_folder(name, root)
    return [file for file in member.files if not _find(member, folder, file)]


def _check_not_astray(member: Member, root: Path, folder: Path) -> None:
    """Raise InputError if the files lie in a folder above `folder`."""
    # in the data folder itself they have MNIST's names, whichever set they are of
    above = [folder.parent, root] if member.source is mnist.MNIST else [folder.parent]
    for place in above:
        if all(_find(member, place, file) for file in member.files):
            raise InputError(
                f"{place} holds the files of {folder.parent.name}: move them to {folder}"
            )


def _archives(member: Member) -> dict[str, tuple[list[str], str]]:
    """Return the addresses and the MD5 of each download, by its name, as torchvision has them."""
    source = member.source
    if issubclass(source, mnist.EMNIST):
        return {EMNIST_ZIP: ([source.url], source.md5)}
    if issubclass(source, mnist.QMNIST):
        pairs = [*source.resources["train"], *source.resources["test"]]
        return {url.rpartition("/")[2]: ([url], md5) for url, md5 in pairs}
    return {
        name: ([mirror + name for mirror in source.mirrors], md5) for name, md5 in source.resources
    }


def _checksums(member: Member) -> dict[str, str]:
    """Return the MD5 of every file of the folder that has a known one."""
    plain = MNIST_MD5 if member.source is mnist.MNIST else {}
    return plain | {name: md5 for name, (_, md5) in _archives(member).items()}


def _find(member: Member, folder: Path, file: str) -> Path | None:
    """Return where `file` lies: as it is, compressed, or in EMNIST's zip.

    Of several the first whose checksum is known, or the first of all.
    """
    forms = [folder / file, folder / f"{file}.gz"]
    forms += [folder / EMNIST_ZIP] if member.source is mnist.EMNIST else []
    known = _checksums(member)
    there = [path for path in forms if os.path.isfile(path)]
    return next((path for path in there if path.name in known), next(iter(there), None))


def _check(path: Path, member: Member) -> None:
    """Raise InputError if the checksum of the file at `path` is known and is not its own."""
    sums = _checksums(member)
    known, plain = sums.get(path.name), path.name.removesuffix(".gz")
    try:
        with path.open("rb") as file:
            md5 = _md5(file)
        if known and md5 != known and plain in sums:  # compressed by another program
            with suppress(EOFError, zlib.error, gzip.BadGzipFile), gzip.open(path) as file:
                known = md5 if _md5(file) == sums[plain] else known
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; name another folder by root="
        ) from error
    if known and md5 != known:
        raise InputError(
            f"{path} is not {member.source.__name__}'s file (MD5 {md5}, not {known}): "
            "replace it, or delete it to have it downloaded again"
        )


def _md5(file: BinaryIO) -> str:
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _read_part(
    member: Member, paths: dict[str, Path], images_file: str, labels_file: str
) -> tuple[Tensor, Tensor]:
    """Return images `(N, 1, 28, 28)` and labels `(N,)` from two files of the data set."""
    images, labels = _read_idx(paths, images_file), _read_idx(paths, labels_file)
    if images.dtype != torch.uint8 or images.shape[1:] != (28, 28) or not len(images):
        raise InputError(f"{paths[images_file]} holds no grey images 28 x 28: delete it")
    labels = labels.long().flatten(1)[:, 0] if labels.dim() > 1 else labels.long()  # QMNIST's have
    labels = labels - member.first_label  # more columns: who wrote the digit, and where it is from
    if labels.shape != images.shape[:1] or not 0 <= labels.min() <= labels.max() < len(
        member.classes
    ):
        raise InputError(
            f"{paths[labels_file]} has no label of {len(member.classes)} classes for each of the "
            f"{len(images)} images in {paths[images_file]}: delete both"
        )
    images = images.transpose(1, 2).contiguous() if member.transposed else images
    return unit_interval(images, 255), labels


def _read_idx(paths: dict[str, Path], file: str) -> Tensor:
    """Read a file in MNIST's format, idx: type and sizes, then the numbers, high bytes first."""
    path = paths[file]
    try:
        content = _unpacked(path, file)
        zero, kind, dims = content[:2], content[2], content[3]
        sizes = np.frombuffer(content, ">i4", dims, 4)
        numbers = np.frombuffer(content, {8: ">u1", 12: ">i4"}[kind], offset=4 + 4 * dims)
        if zero != bytes(2):
            raise ValueError("it does not begin as an idx file")
        return torch.from_numpy(numbers.reshape(sizes).astype(numbers.dtype.newbyteorder("=")))
    except (OSError, EOFError, zlib.error, BadZipFile, LookupError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({' '.join(str(error).split())}): delete it to have it downloaded "
            "again"
        ) from error


def _unpacked(path: Path, file: str) -> bytes:
    """Return the content of `file`, from where `_find` has found it."""
    if path.name == EMNIST_ZIP:
        with ZipFile(path) as archive:
            return gzip.decompress(archive.read(f"gzip/{file}.gz"))
    return path.read_bytes() if path.name == file else gzip.decompress(path.read_bytes())


def _download(member: Member, root: Path, folder: Path, missing: list[str]) -> None:
    """Download what `missing` files are in to one side, then rename: a kill leaves no half file."""
    archives = _archives(member)
    wanted = [name for name in archives if name == EMNIST_ZIP or name[:-3] in missing]
    made = [path for path in (folder, folder.parent, root) if not os.path.exists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            for name in wanted:
                _fetch(name, *archives[name], partial)
            for name in wanted:
                os.replace(Path(partial) / name, folder / name)
    except (OSError, RuntimeError) as error:  # no network, no space, mirrors down
        for path in made:
            with suppress(OSError):
                path.rmdir()
        source = member.source.__name__
        raise NoData(
            f"{source} is not in {root} and cannot be downloaded ({' '.join(str(error).split())}): "
            f"name the folder that holds {source}/raw by root= or PYRO_VAE_DATA, lay "
            f'{", ".join(wanted)} in {folder} by hand, or choose name="digits"'
        ) from error


def _fetch(name: str, addresses: list[str], md5: str, folder: str) -> None:
    """Download the file `name` into `folder` from the first address that has it."""
    for address in addresses:
        try:
            return utils.download_url(address, folder, name, md5)
        except (OSError, RuntimeError) as error:
            failure = error
    raise failure
