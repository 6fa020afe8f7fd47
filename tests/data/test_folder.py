"""A folder of image files: what is made of each kind, and what is said."""

import io
import re
import shutil
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_vae import load_dataset, load_images, progress
from pyro_vae.data.folder import LARGEST
from pyro_vae.errors import InputError


def stroke(height, width, top=0.2, left=0.4, tall=0.6, wide=0.2):
    """Grey levels 0..255 of a white bar on black, `(height, width)`, by shares of the sides."""
    x = np.zeros((height, width), np.uint8)
    rows = slice(round(top * height), round((top + tall) * height))
    x[rows, round(left * width) : round((left + wide) * width)] = 255
    return x


@pytest.fixture
def write(tmp_path):
    """A function that writes an image, or bytes, into the folder, and returns the folder."""
    folder = tmp_path / "my photos"

    def write(name, content, **options):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            image = content if isinstance(content, Image.Image) else Image.fromarray(content)
            image.save(path, **options)
        return folder

    return write


@pytest.fixture
def loaded(write, capsys):
    """A function that writes one image and returns what is made of it, `(28, 28)`."""

    def load(content, name="x.png", **options):
        folder = write(name, content)
        images = load_images(folder, test_share=1.0, **options).test_images
        capsys.readouterr()
        shutil.rmtree(folder)
        assert images.shape == (1, 1, 28, 28)
        assert images.dtype == torch.float32
        return images[0, 0]

    return load


def box_of(x):
    """The first and last row and column that show anything."""
    rows, columns = (np.flatnonzero((x > 0.2).any(axis)) for axis in (1, 0))
    return [int(i) for i in (rows[0], rows[-1], columns[0], columns[-1])]


@pytest.mark.parametrize("dark_on_light", [False, True])
@pytest.mark.parametrize(
    ("size", "tall", "wide"), [((200, 100), 20, 3), ((60, 180), 20, 20), ((19, 33), 20, 13)]
)
def test_an_image_is_fitted_and_centred_as_mnists_are(loaded, dark_on_light, size, tall, wide):
    """The longer side is 20 pixels, the proportions stay, the middle of the bar is the frame's."""
    x = stroke(*size)
    fitted = loaded(255 - x if dark_on_light else x)
    top, bottom, left, right = box_of(fitted)
    assert bottom - top + 1 == pytest.approx(tall, abs=1)
    assert right - left + 1 == pytest.approx(wide, abs=1)
    assert abs((top + bottom) / 2 - 14) <= 1
    assert abs((left + right) / 2 - 14) <= 1
    assert fitted.max() == 1
    assert fitted[:3].max() == 0


def test_the_centre_of_mass_is_in_the_middle_and_not_that_of_the_box(loaded):
    """A heavy foot pulls the image up; MNIST's mean centre is row 14.0 and column 14.0."""
    x = stroke(200, 200)
    x[140:160, 40:160] = 255
    fitted = loaded(x)
    weights = fitted / fitted.sum()
    row, column = ((weights.sum(1 - axis) * torch.arange(28)).sum() for axis in (0, 1))
    assert float(row) == pytest.approx(14, abs=0.5)
    assert float(column) == pytest.approx(14, abs=0.5)
    top, bottom, *_ = box_of(fitted)
    assert (top + bottom) / 2 < 12.6


def test_edges_are_smoothed(loaded):
    """A slanting edge has greys when it is made smaller; of a stroke half of the weight stays."""
    x = np.tril(np.full((300, 300), 255, np.uint8))
    x[:30], x[-30:], x[:, :30], x[:, -30:] = 0, 0, 0, 0
    fitted = loaded(x)
    assert ((fitted > 0.2) & (fitted < 0.8)).sum() >= 15


@pytest.mark.parametrize("dark_on_light", [False, True])
def test_an_image_of_28x28_stays_as_it_is(loaded, dark_on_light):
    x = stroke(28, 28, top=0, left=0.7)
    fitted = loaded(255 - x if dark_on_light else x)
    assert torch.equal(fitted, torch.from_numpy(x) / 255)


def test_the_grey_background_of_an_image_of_28x28_is_made_black(loaded):
    x = stroke(28, 28, top=0, left=0.7)
    fitted = loaded(128 + x // 4)
    assert (fitted - torch.from_numpy(x) / 255).abs().max() < 0.05


def test_mnists_images_come_back_as_they_were(digits, write, capsys):
    x = (digits.test_images[:20, 0] * 255).byte()
    for i, image in enumerate(x.numpy()):
        folder = write(f"{digits.test_labels[i]}/{i:03}.png", image)
    data = load_images(folder, test_share=1.0)
    order = torch.argsort(digits.test_labels[:20], stable=True)
    assert torch.equal(data.test_images, x[order][:, None] / 255)
    called = [int(data.classes[label]) for label in data.test_labels]
    assert called == digits.test_labels[:20][order].tolist()
    assert "20 taken as they are, 28x28" in capsys.readouterr().out


def test_the_frame_is_filled_where_that_is_asked(loaded):
    assert box_of(loaded(stroke(300, 300, tall=0.6, wide=0.6), box=28)) == [0, 27, 0, 27]


def as_rgba(x):
    """Black where `x` is white, and nothing elsewhere."""
    return Image.fromarray(np.dstack([np.zeros((*x.shape, 3), np.uint8), x]))


def as_white_rgba(x):
    return Image.fromarray(np.dstack([np.full((*x.shape, 3), 255, np.uint8), x]))


FORMS = {
    "rgb.png": lambda x: Image.fromarray(x).convert("RGB"),
    "grey.jpg": Image.fromarray,
    "inks.jpg": lambda x: Image.fromarray(x).convert("RGB").convert("CMYK"),
    "bits.png": lambda x: Image.fromarray(x).convert("1"),
    "palette.png": lambda x: Image.fromarray(x).convert("P"),
    "palette.gif": lambda x: Image.fromarray(x).convert("P"),
    "16bits.png": lambda x: Image.fromarray(x.astype(np.uint16) * 257),
    "16bits.tiff": lambda x: Image.fromarray(x.astype(np.uint16) * 200),
    "12bits.png": lambda x: Image.fromarray(x.astype(np.uint16) * 16),
    "8of16bits.png": lambda x: Image.fromarray(x.astype(np.uint16)),
    "floats to 255.tiff": lambda x: Image.fromarray(x.astype(np.float32)),
    "floats to 1.tiff": lambda x: Image.fromarray(x.astype(np.float32) / 255),
    "floats to 65535.tiff": lambda x: Image.fromarray(x.astype(np.float32) * 257),
    "clear.png": as_rgba,
    "clear and white.png": as_white_rgba,
    "plain.bmp": Image.fromarray,
    "plain.PGM": Image.fromarray,
    "plain.webp": lambda x: Image.fromarray(x).convert("RGB"),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_kind_of_file_shows_the_same(loaded, name):
    """Greys too, which a wrong conversion of 16 bits makes white."""
    x = stroke(200, 120)
    if name != "bits.png":  # which has none
        x[:100] //= 2
    assert (loaded(FORMS[name](x), name) - loaded(x)).abs().max() < 0.1


def test_a_camera_held_sideways(loaded, write):
    """The file says that it is to be turned: EXIF's orientation 6, a quarter to the right."""
    x = stroke(200, 100)
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = write("turned.jpg", np.rot90(x).copy(), exif=exif)
    turned = load_images(folder, test_share=1.0).test_images[0, 0]
    shutil.rmtree(folder)
    assert (turned - loaded(x)).abs().max() < 0.1


def test_a_photograph_of_paper(loaded):
    """Grey paper, a shadow and grain leave a black background, and the stroke white."""
    rng = np.random.default_rng(0)
    x = stroke(900, 700) / 255
    paper = 0.8 + 0.08 * np.linspace(-1, 1, 700)
    photo = paper * (1 - x) + 0.2 * x + rng.normal(scale=0.04, size=x.shape)
    fitted = loaded((photo.clip(0, 1) * 255).astype(np.uint8), "photo.jpg")
    clean = loaded(stroke(900, 700))
    assert (fitted - clean).abs().mean() < 0.03
    assert fitted[:2].max() < 0.05
    assert max(x.shape) > LARGEST  # so that it has been reduced first


def test_black_on_white_is_noticed_image_by_image_where_that_is_clear(write, capsys):
    """And an image whose border is half and half goes with the most."""
    x = stroke(60, 60)
    for i in range(7):
        folder = write(f"{i}.png", 255 - x)
    write("7.png", x)
    half = 255 - x
    half[:30] = 0
    half[10:20, 10:20] = 255
    write("8.png", half)
    data = load_images(folder, test_share=1.0)
    assert (data.test_images[:8] - data.test_images[0]).abs().max() == 0
    top, bottom, *_ = box_of(data.test_images[8, 0])
    above, below = data.test_images[8, 0, [top + 1, bottom - 1]].sum(1)
    assert above > 2 * below  # its black half, above, is ink, as on white paper
    assert "8 dark on light: inverted" in capsys.readouterr().out


def test_classes_are_the_subfolders_and_the_line_says_all(write, capsys):
    for i in range(12):
        folder = write(f"{'left' if i % 2 else 'right'}/deeper/{i}.png", stroke(28 + i, 28))
    write("left/notes.txt", b"mine")
    write(".DS_Store", b"hidden")
    write("__MACOSX/left/._0.png", b"hidden")
    data = load_images(folder)
    assert data.classes == ("left", "right")
    assert data.noun == "class"
    assert len(data.train_images) == 10
    assert len(data.test_images) == 2
    assert sorted([*data.train_labels.tolist(), *data.test_labels.tolist()]) == [0] * 6 + [1] * 6
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{folder}: 12 images, 2 classes; 11 resized and centred as MNIST is; 1 taken as they are, "
        "28x28; no images, left out: notes.txt"
    ]


def test_each_image_keeps_its_own_label(write):
    """Through the shuffle: bars of ten widths, each in the folder of its width."""
    for i in range(40):
        folder = write(f"{i % 10}/{i}.png", stroke(100, 100, left=0.1, wide=0.05 * (1 + i % 10)))
    data = load_images(folder)
    widths = [stroke(100, 100, left=0.1, wide=0.05 * (1 + i)).sum() for i in range(10)]
    assert widths == sorted(widths)
    for images, labels in (
        (data.train_images, data.train_labels),
        (data.test_images, data.test_labels),
    ):
        ink = images.flatten(1).sum(1)
        ranks = torch.stack([ink[labels == y].mean() for y in labels.unique()])
        assert torch.equal(ranks.sort().values, ranks)


def test_a_flat_folder_has_no_labels(write, capsys):
    for i in range(10):
        folder = write(f"{i}.png", stroke(40 + i, 40))
    data = load_images(folder)
    assert data.classes == ()
    assert {*data.train_labels.tolist(), *data.test_labels.tolist()} == {-1}
    assert "10 images, without labels;" in capsys.readouterr().out


def test_the_split_is_drawn_by_the_seed(write):
    for i in range(20):
        x = stroke(28, 28)
        x[2, i] = 100
        folder = write(f"{i}.png", x)
    once, again, other = (load_images(folder, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(once.test_images, again.test_images)
    assert not torch.equal(once.test_images, other.test_images)
    assert len(once.test_images) == 4
    whole = torch.cat([once.train_images, once.test_images]).flatten(1)
    assert len(whole.unique(dim=0)) == 20
    assert [len(part) for part in load_images(folder, test_share=0.0)[1::2][:2]] == [20, 0]
    assert [len(part) for part in load_images(folder, test_share=0.01)[1::2][:2]] == [19, 1]


def test_every_class_has_its_share_to_test_on(write):
    for i in range(60):
        folder = write(f"{min(i // 10, 3)}/{i}.png", stroke(28, 28))
    for seed in range(5):
        data = load_images(folder, seed=seed)
        assert data.test_labels.bincount().tolist() == [2, 2, 2, 6]
        assert data.train_labels.bincount().tolist() == [8, 8, 8, 24]


def test_train_and_test_of_the_folder_stay_as_they_are(write):
    for i in range(6):
        part = "training" if i < 4 else "testing"
        folder = write(f"{part}/{'ab'[i % 2]}/{i}.png", stroke(40, 40, tall=0.2 + 0.1 * i))
    data = load_images(folder)
    assert data.classes == ("a", "b")
    assert data.train_labels.tolist() == [0, 0, 1, 1]
    assert data.test_labels.tolist() == [0, 1]


def test_the_name_is_safe_and_tells_images_apart(write, tmp_path):
    for i in range(10):
        folder = write(f"{i}.png", stroke(40, 40))
    first = load_images(folder).name
    assert re.fullmatch("folder-my-photos-[0-9a-f]{6}", first)
    assert load_images(folder).name == first
    assert load_images(folder, seed=1).name != first
    write("0.png", stroke(40, 40, tall=0.3))
    assert load_images(folder).name != first
    odd = folder.rename(tmp_path / "Fotos, été (2)")
    assert re.fullmatch("folder-fotos-t-2-[0-9a-f]{6}", load_images(odd).name)
    odd = odd.rename(tmp_path / "写真")
    assert re.fullmatch("folder-images-[0-9a-f]{6}", load_images(odd).name)


@pytest.mark.parametrize("watched", [False, True])
def test_a_bar_is_shown_where_someone_watches(write, monkeypatch, watched):
    there = io.StringIO()
    there.isatty = lambda: watched
    monkeypatch.setattr(sys, "stderr", there)
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setattr("tqdm.std.time", count(0, 10).__next__)  # a slow disk
    for i in range(10):
        folder = write(f"{i}.png", stroke(40, 40))
    load_images(folder)
    assert ("image files: 100%" in there.getvalue()) == watched
    assert (there.getvalue() != "") == watched


def test_a_folder_by_the_name_of_a_data_set(write, monkeypatch):
    for i in range(10):
        folder = write(f"{i}.png", stroke(40, 40))
    assert load_dataset(f"folder:{folder}").name == load_images(folder).name
    monkeypatch.chdir(folder)
    assert load_dataset("folder:.").name == load_images(folder).name


def test_what_is_no_image_is_named(write):
    write("good.png", stroke(40, 40))
    folder = write("broken.png", b"\x89PNG\r\n\x1a\nno more")
    with pytest.raises(InputError, match=r"broken\.png cannot be read as an image"):
        load_images(folder)
    write("broken.png", (folder / "good.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"broken\.png cannot be read as an image"):
        load_images(folder)


def test_several_that_are_no_images_are_counted_and_three_named(write):
    write("good.png", stroke(40, 40))
    for i in range(5):
        folder = write(f"{i}.png", b"no image")
    named = (
        r"5 of 6 image files .*\(0\.png, 1\.png, 2\.png and 2 more\): of the first, .*0\.png cannot"
    )
    with pytest.raises(InputError, match=named):
        load_images(folder)


def test_links_to_folders_are_followed_and_none_twice(write, tmp_path, capsys):
    for i in range(10):
        folder = write(f"a/{i}.png", stroke(40, 40))
    (folder / "a").rename(tmp_path / "elsewhere")
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(folder)
    assert load_images(folder).classes == ("b",)
    assert "10 images, 1 class;" in capsys.readouterr().out


@pytest.mark.parametrize("grey", [0, 255, 130])
def test_an_image_that_shows_nothing_is_named(write, grey):
    folder = write("blank.png", np.full((50, 50), grey, np.uint8))
    with pytest.raises(InputError, match=r"blank\.png shows nothing"):
        load_images(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "is not a folder: name one"),
        (["notes.txt"], "holds no image files"),
        (["a/1.png", "2.png"], "beside folders of classes (2.png): move them"),
        (["train/a/1.png", "b/2.png"], "both within and beside train and test"),
        (["train/a/1.png", "val/a/2.png"], "val lies beside train or test: rename it test, or"),
        (["train/a/1.png"], "holds images in train alone: name"),
        (["1.png", "2.png"], "too few images to train and test on, 2 (1.png, 2.png): add some, 10"),
        ([f"{i}.png" for i in range(9)], "9 (0.png, 1.png, 2.png and 6 more)"),
    ],
)
def test_a_folder_that_will_not_do_is_named(write, tmp_path, files, message):
    for name in files:
        write(name, b"" if name.endswith("txt") else stroke(40, 40))
    with pytest.raises(InputError, match=re.escape(message)) as error:
        load_images(tmp_path / "my photos")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_share": 1.5}, "test_share must be a number from 0 to 1"),
        ({"test_share": float("nan")}, "test_share must be a number from 0 to 1"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"box": 0}, "box must be a whole number >= 1"),
        ({"box": 29}, "box must be at most 28 pixels, not 29"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(InputError, match=message):
        load_images(Path("nowhere"), **options)
