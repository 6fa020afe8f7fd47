"""Small files in the formats of MNIST's family, with their checksums in place of the real ones."""

import gzip
import hashlib
import shutil
import struct
from pathlib import Path
from zipfile import ZipFile

import torch
from torchvision.datasets import mnist

from pyro_vae.data.mnist_family import EMNIST_ZIP, FAMILY, raw_folder


def idx(numbers):
    """The content of an idx file of uint8 or int32 numbers."""
    kind, code = {torch.uint8: (8, ">u1"), torch.int32: (12, ">i4")}[numbers.dtype]
    sizes = struct.pack(f">{numbers.dim()}i", *numbers.shape)
    return bytes([0, 0, kind, numbers.dim()]) + sizes + numbers.numpy().astype(code).tobytes()


def contents(name, train, test):
    """The four uncompressed files of the data set `name`, of images and labels as a user has them.

    `train` and `test` are uint8 images `(N, 28, 28)` and labels `(N,)` from 0.
    """
    member = FAMILY[name]
    stored = []
    for images, labels in (train, test):
        images = images.transpose(1, 2) if member.transposed else images
        labels = labels + member.first_label
        if name == "qmnist":  # seven columns more, of which nothing is a class
            others = torch.arange(len(labels) * 7).reshape(-1, 7) + 1000
            stored += [images, torch.cat([labels[:, None], others], 1).int()]
        else:
            stored += [images, labels.to(torch.uint8)]
    return {f: idx(numbers) for f, numbers in zip(member.files, stored, strict=True)}


def lay(monkeypatch, root, name, train, test):
    """Lay the data set `name` in `root` as it is downloaded; torchvision then has its checksums.

    Returns the folder.
    """
    member, folder = FAMILY[name], raw_folder(name, root)
    folder.mkdir(parents=True, exist_ok=True)
    packed = {
        f"{file}.gz": gzip.compress(content, 1, mtime=0)
        for file, content in contents(name, train, test).items()
    }
    if member.source is mnist.EMNIST:
        with ZipFile(folder / EMNIST_ZIP, "w") as archive:
            for file, content in packed.items():
                archive.writestr(f"gzip/{file}", content)
        monkeypatch.setattr(mnist.EMNIST, "md5", md5_of(folder / EMNIST_ZIP))
        return folder
    for file, content in packed.items():
        (folder / file).write_bytes(content)
    if name == "qmnist":
        resources = {
            part: [(url, md5_of(folder / url.rpartition("/")[2])) for url, _ in pairs]
            for part, pairs in mnist.QMNIST.resources.items()
            if part != "nist"
        }
    else:
        resources = [(file, md5_of(folder / file)) for file in packed]
    monkeypatch.setattr(member.source, "resources", resources)
    return folder


def unpack(folder):
    """Unpack in place what lies in `folder`, and leave the uncompressed files alone."""
    for path in [*folder.glob("*.zip")]:
        shutil.unpack_archive(path, folder)
        path.unlink()
    for path in [*folder.rglob("*.gz")]:
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()


def md5_of(path: Path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
