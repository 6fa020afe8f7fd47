import shutil

import pytest
import torch
import torchvision

from pyro_vae.data.datasets import MNIST_MD5, RAW, data_root, load_dataset, load_mnist
from pyro_vae.data.images import check_images
from pyro_vae.errors import InputError


@pytest.fixture
def offline(monkeypatch):
    """No download gets through."""

    def refuse(*args, **kwargs):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", refuse)


@pytest.fixture
def copied(mnist, tmp_path, offline):
    """A data folder of one's own, to spoil."""
    shutil.copytree(data_root() / RAW, tmp_path / RAW)
    for path in (tmp_path / RAW).iterdir():
        path.chmod(0o644)
    return tmp_path


def test_mnist_is_what_torchvision_gives(mnist):
    reference = torchvision.datasets.MNIST(
        data_root(), train=True, transform=torchvision.transforms.ToTensor()
    )
    for index in (0, 28001, 59289):
        image, label = reference[index]
        assert torch.equal(mnist.train_images[index], image)
        assert int(mnist.train_labels[index]) == label
    assert mnist.train_images.shape == (60000, 1, 28, 28)
    assert mnist.test_images.shape == (10000, 1, 28, 28)
    assert mnist.test_labels.bincount().tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


def test_digits_have_mnists_shape(digits):
    assert digits.train_images.shape == (1500, 1, 28, 28)
    assert digits.test_images.shape == (297, 1, 28, 28)
    check_images(digits.train_images)
    assert digits.train_images.max() == 1
    assert set(digits.test_labels.tolist()) == set(range(10))
    assert digits.name == "digits"


@pytest.mark.parametrize("name", MNIST_MD5)
@pytest.mark.parametrize("spoil", ["truncated", "altered"])
def test_a_spoilt_file_is_named_and_refused(copied, name, spoil):
    path = copied / RAW / name
    content = bytearray(path.read_bytes())
    if spoil == "truncated":
        content = content[: len(content) // 2]
    else:
        content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is not MNIST's file .*: delete it"):
        load_mnist(copied)


def test_only_the_checked_files_are_read(copied, mnist):
    """torchvision's class would take these files of its old layout, which nothing checks."""
    processed = copied / "MNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(10, 28, 28).byte(), torch.zeros(10)), processed / name)
    assert torch.equal(load_mnist(copied).test_images, mnist.test_images)


def test_missing_mnist_says_what_to_do(tmp_path, offline):
    with pytest.raises(InputError, match=r'by root= or .* choose name="digits"$') as error:
        load_mnist(tmp_path / "nowhere")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []  # nothing half-downloaded, and no empty folder


def test_a_missing_file_is_not_replaced_by_the_digits(copied):
    (copied / RAW / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="MNIST is not in"):
        load_dataset("mnist", copied)


def test_the_data_folder(monkeypatch):
    monkeypatch.setenv("PYRO_VAE_DATA", "from-environment")
    assert str(data_root("given")) == "given"
    assert str(data_root()) == "from-environment"
    monkeypatch.delenv("PYRO_VAE_DATA")
    assert str(data_root()) == "data"


def test_unknown_dataset():
    with pytest.raises(InputError, match="dataset 'fashion' is unknown"):
        load_dataset("fashion")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((2, 1, 28, 28), 255.0), r"pixels in \[0, 1\].*divide"),
        (torch.full((2, 1, 28, 28), -0.1), r"pixels in \[0, 1\]"),
        (torch.full((2, 1, 28, 28), float("nan")), "without NaN"),
        (torch.rand(2, 28, 28), r"shape \(B, 1, 28, 28\)"),
        (torch.rand(2, 1, 32, 32), r"shape \(B, 1, 28, 28\)"),
        (torch.rand(0, 1, 28, 28), "B >= 1"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "float32 or float64, not uint8"),
        ([[0.0]], "must be a tensor, not list"),
    ],
)
def test_wrong_images_are_named(images, message):
    with pytest.raises(InputError, match=message):
        check_images(images)
