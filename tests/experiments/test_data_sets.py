"""The scripts on other data than MNIST: names, folders, and what they ask of labels."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.cli import announce_and_load, make_parser, results_root
from experiments.question_a.reader import Reader
from experiments.question_b import extremes, features
from experiments.question_d import classification, styles
from pyro_vae.analysis.judges import Classifier
from pyro_vae.analysis.plots import class_colours, name_of_image, short_name
from pyro_vae.data.mnist_family import FAMILY
from tests.commands import check_wrong_option, main_of, run_script
from tests.data.formats import lay

GARMENTS = FAMILY["fashion-mnist"].classes


def photographs(folder, digits, classes, count=60):
    """Write black digits on white paper, 60 x 50, into subfolders; without classes side by side."""
    for i in range(count):
        label = int(digits.train_labels[i])
        path = folder / (classes[label % len(classes)] if classes else "") / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = 255 - (255 * digits.train_images[i, 0]).byte().numpy()
        paper = Image.new("L", (50, 60), 255)
        paper.paste(Image.fromarray(grey).resize((40, 40)), (3, 12))
        paper.save(path)
    return folder


@pytest.fixture
def flat(tmp_path, digits):
    return photographs(tmp_path / "flat", digits, ())


def test_each_data_set_has_results_of_its_own(monkeypatch, tmp_path, digits):
    x, y = (255 * digits.test_images[:40, 0]).byte(), digits.test_labels[:40]
    lay(monkeypatch, tmp_path, "fashion-mnist", (x, y), (x, y))
    options = ["--dataset", "FashionMNIST", "--data-root", tmp_path, "--results", tmp_path]
    args = make_parser("").parse_args([*map(str, options)])
    data = announce_and_load(args, "question")
    assert args.dataset == data.name == "fashion-mnist"
    assert results_root(args, data) == tmp_path / "fashion-mnist"
    assert data.classes == GARMENTS


@pytest.mark.parametrize("script", ["question_c", "question_d"])
def test_scripts_that_compare_classes_say_so(flat, tmp_path, capsys, script):
    options = ["--dataset", f"folder:{flat}"]
    message = "this script compares classes: put the images of each class into a subfolder"
    check_wrong_option(main_of(script), options, message, tmp_path / "results", capsys)


def test_question_d_asks_for_images_of_each_class(tmp_path, digits, capsys):
    folder = photographs(tmp_path / "few", digits, tuple("0123456789"), 40)
    options = ["--dataset", f"folder:{folder}"]
    message = "test images, and question (d) needs 4 of each: add some"
    check_wrong_option(main_of("question_d"), options, message, tmp_path / "results", capsys)


def test_question_b_asks_for_enough_images(tmp_path, digits, capsys):
    folder = photographs(tmp_path / "few", digits, (), 40)
    options = ["--dataset", f"folder:{folder}"]
    message = "has 8 test images, and question (b) needs 20: add some"
    check_wrong_option(main_of("question_b"), options, message, tmp_path / "results", capsys)


def test_names_are_cut_and_hold_no_formula():
    assert [short_name(name) for name in ("7", "T-shirt/top", "a" * 13)] == [
        "7",
        "T-shirt/top",
        f"{'a' * 11}…",
    ]
    assert short_name("$x$") == r"\$x\$"


def test_classes_have_different_colours():
    for count in (1, 10, 20, 26, 47):
        assert len({*class_colours(count)}) == count


def test_an_image_is_called_by_its_class(digits):
    garments = digits._replace(classes=GARMENTS)
    assert name_of_image(digits, 7) == "a 7"
    assert name_of_image(garments, 9) == "Ankle boot"
    assert name_of_image(digits._replace(classes=()), -1) == ""
    assert styles.title_of(digits, 7) == "y = 7"
    assert styles.title_of(garments, 9) == "Ankle boot"


def test_what_is_read_is_said_by_its_name():
    x = torch.zeros(2, 1, 28, 28)
    reader = Reader(lambda images: np.array([0, 9]), GARMENTS)
    assert reader.read(x) == ([0, 9], ["read as\nT-shirt/top", "read as\nAnkle boot"])
    assert Reader(lambda images: np.array([0]), ("5",)).read(x) == ([0], ["read as 5"])
    assert Reader(None, ()).read(x) == ([None, None], ["", ""])


def test_the_figures_of_a_class_are_labelled_with_its_name(digits):
    record = {"image": 0, "refined": -1.0}
    metrics = {
        "digits": {
            "Ankle boot": {"likely": [record], "unlikely": []},
            "7": {"likely": [], "unlikely": [record]},
        }
    }
    figure = extremes.classes_figure(digits.test_images, metrics, "class")
    assert figure.axes[0].get_ylabel() == "Ankle boot and 7"
    assert [ax.axison for ax in figure.axes] == [True, *[False] * 6, True, False]
    garments = digits._replace(classes=GARMENTS)
    values = dict.fromkeys(features.SHOWN, np.arange(297.0))
    figure = features.figure(values, np.arange(297.0), garments)
    assert figure.get_suptitle().startswith(f"Orange: the {garments.noun} ")


@pytest.mark.parametrize("classes", [2, 10, 26])
def test_confidence_has_bins_from_one_in_c(classes):
    p = np.full((5, classes), 1 / classes)
    bins = classification.bins_of_confidence(p, np.zeros(5, int))
    assert [part["images"] for part in bins] == [5]
    assert bins[0]["from"] == pytest.approx(1 / classes)


def test_the_classifier_has_as_many_classes_as_the_data():
    assert Classifier(26)(torch.zeros(3, 1, 28, 28)).shape == (3, 26)


def test_few_classes_are_shown_as_far_as_they_go(digits):
    assert styles.some_classes(digits, styles.WAYS) == [2, 3, 4, 7]
    assert styles.some_classes(digits._replace(classes=("a", "b")), styles.WAYS) == [0, 1]


def test_a_missing_data_set_names_the_options(tmp_path, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", refuse)
    options = ["--dataset", "kmnist", "--data-root", tmp_path / "none"]
    message = "name the folder that holds KMNIST/raw by --data-root or PYRO_VAE_DATA, lay train-"
    check_wrong_option(main_of("question_a"), options, message, tmp_path / "results", capsys)


FAST = ("--epochs", 1, "--batch-size", 20)


@pytest.mark.scripts
@pytest.mark.parametrize(
    "classes",
    [
        pytest.param(("one, whose name is long", "two"), marks=pytest.mark.slow, id="two"),
        pytest.param((), id="none"),
    ],
)
@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("question_a", ("--posterior-draws", 1)),
        # minutes each
        pytest.param("question_b", ("--images", 20), marks=pytest.mark.slow),
    ],
)
def test_questions_a_and_b_on_a_folder(tmp_path, digits, classes, script, options):
    """The classes are named; without labels, what needs them is left out."""
    folder = photographs(tmp_path / "some photos", digits, classes, 150)
    done = run_script(
        script, "--dataset", f"folder:{folder}", *FAST, *options, "--results", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "150 dark on light: inverted" in done.stdout
    (metrics,) = tmp_path.glob(f"folder-some-photos-*/{script}/metrics.json")
    content = json.loads(metrics.read_text())
    assert content["classes"] == [*classes]
    if script == "question_a":
        assert ("noise_curves" in content) is bool(classes)
    else:
        assert [*content["guide_100"]["digits"]] == [*classes]
        assert metrics.with_name("by_digit.png").exists() is bool(classes)
