import pytest
import torch

from pyro_vae import Dataset, load_dataset
from pyro_vae.data.dataset import DIGITS, of_different_classes
from pyro_vae.data.images import check_images
from pyro_vae.data.loading import DATASETS, dataset_name
from pyro_vae.data.mnist_family import FAMILY
from pyro_vae.errors import InputError


def test_digits_have_mnists_shape(digits):
    assert digits.train_images.shape == (1500, 1, 28, 28)
    assert digits.test_images.shape == (297, 1, 28, 28)
    check_images(digits.train_images)
    assert digits.train_images.max() == 1
    assert set(digits.test_labels.tolist()) == set(range(10))
    assert digits.name == "digits"


def test_every_data_set_has_a_name_and_classes():
    assert {*DATASETS} == {*FAMILY, "digits"}
    sizes = {name: len(member.classes) for name, member in FAMILY.items()}
    assert sizes["emnist-letters"] == 26
    assert sizes["emnist-balanced"] == 47
    assert {*sizes.values()} == {10, 26, 47}
    assert FAMILY["fashion-mnist"].classes[:2] == ("T-shirt/top", "Trouser")
    assert "".join(FAMILY["emnist-letters"].classes) == "abcdefghijklmnopqrstuvwxyz"


def test_a_data_set_of_five_fields_has_the_digits_classes():
    x, y = torch.zeros(2, 1, 28, 28), torch.arange(2)
    assert Dataset("mine", x, y, x, y).classes == DIGITS
    assert Dataset("mine", x, y, x, y).noun == "digit"
    assert Dataset("mine", x, y, x, y, ("cat", "dog")).noun == "class"


@pytest.mark.parametrize("name", ["FashionMNIST", "fashion_mnist", "fashionmnist"])
def test_a_name_is_taken_as_others_spell_it(name):
    assert dataset_name(name) == "fashion-mnist"
    assert dataset_name("EMNIST") == "emnist-letters"


@pytest.mark.parametrize("name", ["fashion", "", "cifar10", "folder"])
def test_unknown_dataset(name):
    with pytest.raises(InputError, match=rf"dataset '{name}' is unknown: .*, folder:PATH$"):
        load_dataset(name)


@pytest.mark.parametrize(
    ("labels", "count", "chosen"),
    [
        ([7, 7, 2, 7, 1, 2, 0], 3, [0, 2, 4]),
        ([5, 5, 0, 5, 1, 0], 2, [0, 2]),
        ([5, 5, 0, 5, 1, 0], 5, [0, 1, 2, 3, 4]),
        ([-1, -1, -1], 2, [0, 1]),
        ([-1, -1], 4, [0, 1]),
    ],
)
def test_images_of_different_classes(labels, count, chosen):
    assert of_different_classes(torch.tensor(labels), count) == chosen


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
