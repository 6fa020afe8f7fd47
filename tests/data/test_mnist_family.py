"""The data sets in MNIST's format, from small files in each form that they may lie in."""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import urllib.error

import pytest
import torch
import torchvision
from torchvision.datasets import mnist as torchvisions
from torchvision.datasets import utils

from pyro_vae import load_dataset
from pyro_vae.data.dataset import NoData
from pyro_vae.data.mnist_family import (
    EMNIST_ZIP,
    FAMILY,
    MNIST_MD5,
    data_root,
    missing_files,
    raw_folder,
)
from pyro_vae.errors import InputError
from tests.data.formats import contents, lay, md5_of, unpack

EMNIST = [name for name in FAMILY if name.startswith("emnist")]


def some_images(classes, count=60, seed=0):
    """Images that are not their own transpose, and labels that use every class that fits."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=rng)
    return images, torch.arange(count).flip(0) % classes


@pytest.fixture
def offline(monkeypatch):
    """No download gets through."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(utils, "download_url", refuse)


@pytest.fixture
def laid(tmp_path, monkeypatch, offline):
    """A function that lays a small data set by its name: (folder, train, test)."""

    def small(name):
        classes = len(FAMILY[name].classes)
        train, test = some_images(classes), some_images(classes, 50, seed=1)
        return lay(monkeypatch, tmp_path, name, train, test), train, test

    return small


def check_is(data, train, test):
    """The data set `data` has exactly these images and labels."""
    for x, y, (images, labels) in (
        (data.train_images, data.train_labels, train),
        (data.test_images, data.test_labels, test),
    ):
        assert torch.equal(x, images[:, None] / 255)
        assert x.dtype == torch.float32
        assert torch.equal(y, labels)
        assert y.dtype == torch.int64


@pytest.mark.parametrize("unpacked", [False, True], ids=["as downloaded", "unpacked"])
@pytest.mark.parametrize("name", FAMILY)
def test_each_is_read_in_each_form(laid, tmp_path, monkeypatch, name, unpacked):
    """Upright, with labels from 0 that the names of the classes count."""
    folder, train, test = laid(name)
    if unpacked:
        unpack(folder)
        sums = {file: md5_of(folder / file) for file in FAMILY[name].files}
        monkeypatch.setattr("pyro_vae.data.mnist_family.MNIST_MD5", sums)
    files = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    data = load_dataset(name, tmp_path)
    check_is(data, train, test)
    assert data.name == name
    assert data.train_labels.max() < len(data.classes)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == files


@pytest.mark.parametrize("name", FAMILY)
def test_torchvisions_own_class_reads_the_same(laid, tmp_path, monkeypatch, name):
    """But for what torchvision leaves to its users: EMNIST's images lie on their side."""
    unpack(laid(name)[0])
    monkeypatch.setattr("pyro_vae.data.mnist_family.MNIST_MD5", {})
    emnist = FAMILY[name].source is torchvisions.EMNIST
    split = {"split": name.partition("-")[2]} if emnist else {}
    reference = FAMILY[name].source(tmp_path, train=False, **split)
    data = load_dataset(name, tmp_path)
    assert len(reference) == len(data.test_images)
    for i in (0, 7, 49):
        image, label = reference[i]
        pixels = torchvision.transforms.functional.to_tensor(image)
        assert torch.equal(data.test_images[i], pixels.mT if emnist else pixels)
        called = reference.classes[label].partition(" - ")[0]  # "7 - seven" of MNIST
        assert data.classes[data.test_labels[i]] == called


def test_emnist_is_turned_upright(tmp_path, monkeypatch, mnist):
    """Of MNIST's ones, which stand, the height is more than the width; as stored they lie."""
    ones = (mnist.test_images[mnist.test_labels == 1][:20, 0] * 255).byte()
    part = (ones, torch.full((20,), ord("l") - ord("a")))
    unpack(lay(monkeypatch, tmp_path, "emnist-letters", part, part))
    x = load_dataset("emnist-letters", tmp_path).test_images[:, 0] > 0.5
    stored = torchvisions.EMNIST(tmp_path, split="letters", train=False).data > 127
    for images, upright in ((x, True), (stored, False)):
        height, width = (images.any(side).sum(1).float().mean() for side in (2, 1))
        assert bool(height > 1.5 * width) is upright


def test_mnist_is_what_torchvision_gives(mnist):
    assert mnist.train_images.shape == (60000, 1, 28, 28)
    assert mnist.test_images.shape == (10000, 1, 28, 28)
    assert mnist.test_labels.bincount().tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    if not all((raw_folder("mnist") / file).is_file() for file in MNIST_MD5):
        pytest.skip("torchvision reads uncompressed files only")
    reference = torchvisions.MNIST(data_root(), train=True)
    for i in (0, 28001, 59289):
        image, label = reference[i]
        assert torch.equal(
            mnist.train_images[i], torchvision.transforms.functional.to_tensor(image)
        )
        assert int(mnist.train_labels[i]) == label


def test_mnist_compressed_by_another_program(monkeypatch, tmp_path, laid):
    """Its bytes differ from the download's; what it holds is known."""
    folder, train, test = laid("mnist")
    contents = {p.stem: gzip.decompress(p.read_bytes()) for p in folder.glob("*.gz")}
    sums = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr("pyro_vae.data.mnist_family.MNIST_MD5", sums)
    name = FAMILY["mnist"].files[0]
    (folder / f"{name}.gz").write_bytes(gzip.compress(contents[name], 9, mtime=1))
    check_is(load_dataset("mnist", tmp_path), train, test)
    (folder / f"{name}.gz").write_bytes(gzip.compress(contents[name][:-1] + b"?"))
    with pytest.raises(InputError, match=r"is not MNIST's file .*: replace it, or delete it"):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize("laid_by_hand", [1, 3])
def test_some_files_compressed_and_the_others_not(laid, tmp_path, laid_by_hand):
    folder, train, test = laid("fashion-mnist")
    for file in FAMILY["fashion-mnist"].files[laid_by_hand:]:
        (folder / file).write_bytes(gzip.decompress((folder / f"{file}.gz").read_bytes()))
        (folder / f"{file}.gz").unlink()
    check_is(load_dataset("fashion-mnist", tmp_path), train, test)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no folders that cannot be written to")
@pytest.mark.parametrize("name", ["kmnist", "emnist-letters"])
def test_a_folder_that_cannot_be_written_to(laid, tmp_path, name):
    """What lies there compressed is read all the same, as another user than root's sees to."""
    folder, train, test = laid(name)
    for path in [*folder.iterdir(), folder, folder.parent, tmp_path]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        check_is(load_dataset(name, tmp_path), train, test)
    finally:
        for path in (tmp_path, folder.parent, folder):
            path.chmod(0o755)


def spoil(path, way):
    content = bytearray(path.read_bytes())
    if way == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("way", ["truncated", "altered"])
@pytest.mark.parametrize("name", FAMILY)
def test_a_spoilt_download_is_named_and_refused(laid, tmp_path, name, way):
    folder, *_ = laid(name)
    path = sorted(folder.iterdir())[-1]
    spoil(path, way)
    with pytest.raises(InputError, match=rf"{path.name} is not .*MNIST's file .*: replace it"):
        load_dataset(name, tmp_path)


@pytest.mark.parametrize("file", MNIST_MD5)
@pytest.mark.parametrize("way", ["truncated", "altered"])
def test_a_spoilt_file_of_mnist_is_named_and_refused(mnist, tmp_path, offline, file, way):
    if not (raw_folder("mnist") / file).is_file():
        pytest.skip("MNIST lies compressed here")
    shutil.copytree(raw_folder("mnist"), raw_folder("mnist", tmp_path))
    spoil(raw_folder("mnist", tmp_path) / file, way)
    with pytest.raises(InputError, match=f"{file} is not MNIST's file .*: replace it"):
        load_dataset("mnist", tmp_path)


def test_a_whole_download_is_read_where_the_unpacked_file_is_spoilt(laid, tmp_path):
    """Of FashionMNIST the checksum of the download alone is known, so that is what is read."""
    folder, train, test = laid("fashion-mnist")
    for file in FAMILY["fashion-mnist"].files:
        (folder / file).write_bytes(b"half a fi")
    check_is(load_dataset("fashion-mnist", tmp_path), train, test)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b"not an idx file, though it is long enough", "is damaged"),
        (bytes([0, 0, 9, 1, 0, 0, 0, 1, 0]), "is damaged"),  # of another type
        (bytes([0, 0, 8, 1, 0, 0, 0, 9, 0]), "is damaged"),  # nine numbers said, one there
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 0]), "no grey images 28 x 28"),
        ("fewer", "no label of 10 classes for each of the 60 images"),
        ("other labels", "no label of 10 classes for each of the 60 images"),
    ],
)
def test_an_unpacked_file_that_is_none_is_named(laid, tmp_path, content, message):
    folder, train, test = laid("kmnist")
    unpack(folder)
    files = FAMILY["kmnist"].files
    if content == "fewer":
        wrong = contents("kmnist", (train[0][1:], train[1][1:]), test)[files[1]]
    elif content == "other labels":
        wrong = contents("kmnist", (train[0], train[1] + 1), test)[files[1]]
    else:
        wrong = content
    spoilt = files[1] if isinstance(content, str) else files[0]
    (folder / spoilt).write_bytes(wrong)
    with pytest.raises(InputError, match=f"{spoilt} .*{message}.*: delete") as error:
        load_dataset("kmnist", tmp_path)
    assert len(str(error.value).splitlines()) == 1


def test_a_spoilt_split_of_emnist_without_its_zip_is_named(laid, tmp_path):
    """A file of the zip laid alone has no checksum, but its own of 32 bits."""
    folder, *_ = laid("emnist-letters")
    shutil.unpack_archive(folder / EMNIST_ZIP, folder)
    (folder / EMNIST_ZIP).unlink()
    for path in (folder / "gzip").iterdir():
        path.rename(folder / path.name)
    load_dataset("emnist-letters", tmp_path)
    path = folder / "emnist-letters-test-labels-idx1-ubyte.gz"
    spoil(path, "altered")
    with pytest.raises(InputError, match=f"{path.name} is damaged"):
        load_dataset("emnist-letters", tmp_path)


def test_a_split_that_emnists_zip_lacks_is_named(laid, tmp_path):
    laid("emnist-letters")
    with pytest.raises(InputError, match=r"gzip\.zip is damaged .*emnist-digits-train-images"):
        load_dataset("emnist-digits", tmp_path)


def test_only_the_checked_files_are_read(mnist, tmp_path, offline):
    """torchvision's class would take these files of its old layout, which nothing checks."""
    shutil.copytree(raw_folder("mnist"), raw_folder("mnist", tmp_path))
    processed = tmp_path / "MNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(10, 28, 28).byte(), torch.zeros(10)), processed / name)
    assert torch.equal(load_dataset("mnist", tmp_path).test_images, mnist.test_images)


@pytest.mark.parametrize("name", FAMILY)
def test_a_missing_data_set_says_what_to_do(tmp_path, offline, name):
    """And leaves nothing half-downloaded, and no empty folder."""
    source = FAMILY[name].source.__name__
    with pytest.raises(NoData, match=rf"^{source} is not in .* by root= or .*\"digits\"$") as error:
        load_dataset(name, tmp_path / "nowhere")
    line = str(error.value)
    assert "\n" not in line
    assert f"in {raw_folder(name, tmp_path / 'nowhere')} by hand" in line
    wanted = [EMNIST_ZIP] if name in EMNIST else [f"{file}.gz" for file in FAMILY[name].files]
    assert f"lay {', '.join(wanted)} in" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mnist", "kmnist"])
def test_files_in_a_folder_above_their_own_are_named(laid, tmp_path, offline, name):
    folder, *_ = laid(name)
    places = [folder.parent, tmp_path] if name == "mnist" else [folder.parent]
    for place in places:
        for path in folder.iterdir():
            path.rename(place / path.name)
        message = f"{place} holds the files of {folder.parent.name}: move them to {folder}"
        with pytest.raises(InputError, match=re.escape(message)):
            load_dataset(name, tmp_path)
        for path in place.glob("*ubyte*"):
            path.rename(folder / path.name)
    assert load_dataset(name, tmp_path).name == name


def test_one_missing_file_is_named_alone(laid, tmp_path):
    folder, *_ = laid("mnist")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    assert missing_files("mnist", tmp_path) == ["t10k-labels-idx1-ubyte"]
    with pytest.raises(InputError, match=r"MNIST is not in .*lay t10k-labels-idx1-ubyte.gz in"):
        load_dataset("mnist", tmp_path)


@pytest.fixture
def served(laid, tmp_path, monkeypatch):
    """A function that moves a data set onto torchvision's mirrors: every address, as fetched."""

    def serve(name):
        folder, train, test = laid(name)
        shelf = tmp_path / "elsewhere"
        folder.rename(shelf)
        fetched = []

        def fetch(address, root, filename, md5):
            fetched.append(address)
            if "ossci" in address:
                raise urllib.error.URLError("this mirror is down")
            shutil.copy(shelf / filename, root)
            assert md5_of(shelf / filename) == md5

        monkeypatch.setattr(utils, "download_url", fetch)
        return fetched, train, test

    return serve


@pytest.mark.parametrize("name", FAMILY)
def test_a_download_is_read_and_read_again_without_the_network(served, tmp_path, name):
    fetched, train, test = served(name)
    for _ in range(2):
        check_is(load_dataset(name, tmp_path), train, test)
    files = {address.rpartition("/")[2] for address in fetched}
    assert files == ({EMNIST_ZIP} if name in EMNIST else {f"{f}.gz" for f in FAMILY[name].files})
    assert {path.name for path in raw_folder(name, tmp_path).iterdir()} == files
    assert len(fetched) == len(files) * (2 if name == "mnist" else 1)  # of two mirrors one is down


def test_only_what_is_missing_is_downloaded(served, tmp_path):
    fetched, *_ = served("fashion-mnist")
    load_dataset("fashion-mnist", tmp_path)
    (raw_folder("fashion-mnist", tmp_path) / "t10k-labels-idx1-ubyte.gz").unlink()
    fetched.clear()
    load_dataset("fashion-mnist", tmp_path)
    assert [address.rpartition("/")[2] for address in fetched] == ["t10k-labels-idx1-ubyte.gz"]


def test_a_kill_during_the_download_leaves_no_half_file(tmp_path):
    """The second file comes half and the process is gone: of the first, nothing is in place."""
    code = f"""
import os
from torchvision.datasets import utils
from pyro_vae import load_dataset

def fetch(address, root, filename, md5):
    with open(os.path.join(root, filename), "wb") as file:
        file.write(b"half")
    if "labels" in filename:
        os._exit(9)

utils.download_url = fetch
load_dataset("kmnist", {str(tmp_path)!r})
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code])
    assert done.returncode == 9
    folder = raw_folder("kmnist", tmp_path)
    assert [path.name for path in folder.iterdir() if path.is_file()] == []
    assert len(missing_files("kmnist", tmp_path)) == 4


def test_the_data_folder(monkeypatch):
    monkeypatch.setenv("PYRO_VAE_DATA", "from-environment")
    assert str(data_root("given")) == "given"
    assert str(data_root()) == "from-environment"
    monkeypatch.delenv("PYRO_VAE_DATA")
    assert str(data_root()) == "data"
