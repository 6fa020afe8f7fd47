"""Image files of one's own, made as MNIST's images were: white on black, 20x20 within 28x28."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from pyro_vae.data.dataset import Dataset, unit_interval
from pyro_vae.errors import InputError, check_counts, check_number, check_seed, checked
from pyro_vae.progress import progress_bar

SIZE = 28
LARGEST = 280  # a larger image is reduced to this at once: a photograph's grain goes with it
INK = 0.3  # above it a pixel belongs to what the image shows
CLEAR = 0.9  # the share of its border by which an image is light on dark, or dark on light
LEAST = 10  # images that are worth a division into train and test
PARTS = {"train": 0, "training": 0, "test": 1, "testing": 1}  # folders that are no classes
OTHER_PARTS = ("val", "valid", "validation", "dev")  # nor are these, beside train


class File(NamedTuple):
    """An image file of the folder."""

    path: Path
    part: int | None  # 0 to train on, 1 to test on; None where the folder does not say
    label: str | None  # the name of its class


class Picture(NamedTuple):
    """A file's image, ready for either answer to "is it dark on light?"."""

    light_on_dark: np.ndarray  # (28, 28), grey levels 0..255, if it is white on black
    dark_on_light: np.ndarray  # and if it is black on white
    inverted: bool | None  # which it is, by its border; None where that does not say
    as_it_is: bool  # it came as 28x28, and was neither resized nor moved


@checked
def load_images(
    folder: str | Path, *, test_share: float = 0.2, seed: int = 0, box: int = 20
) -> Dataset:
    """Load a folder of image files as images like MNIST's, and say in one line what was done.

    Subfolders are the classes, as in torchvision's ImageFolder; images that lie in none have no
    labels. A `test_share` of each class, drawn by `seed`, is to test on, unless the folder itself
    is made of `train` and `test`.

    Each image is made grey and white on black: one whose border is light is inverted, and one whose
    border is of both kinds goes with the others. The background is made black and the brightest
    pixel white. What is brighter than the background is fitted into `box` x `box` pixels, anti-
    aliased, its proportions kept, and its centre of mass is put in the middle of 28x28, as MNIST
    was made (LeCun and others, "Gradient-based learning applied to document recognition", 1998).
    An image that is 28x28 already is inverted, and its background made black, only where it must
    be. `box=28` fills the frame.

    The name ends in six hex digits computed from the images, so that two folders of one name get
    separate results.

    >>> from torchvision.transforms.functional import to_pil_image
    >>> from pathlib import Path
    >>> from pyro_vae import load_dataset, load_images
    >>> Path("two").mkdir()
    >>> for number, image in enumerate(load_dataset("digits").test_images[:10]):
    ...     to_pil_image(image).save(f"two/{number}.png")
    >>> len(load_images("two").train_images)
    two: 10 images, without labels; 10 taken as they are, 28x28
    8
    """
    check_number("test_share", test_share, 0, 1)
    check_seed(seed)
    check_counts(box=box)
    if box > SIZE:
        raise InputError(f"box must be at most {SIZE} pixels, not {box}")
    folder = Path(folder).expanduser()
    files, others = _list_files(folder)
    pictures = _read_all([file.path for file in files], box)
    images, inverted = _white_on_black(pictures)
    classes = tuple(sorted({file.label for file in files} - {None}))
    labels = torch.tensor([classes.index(f.label) if classes else -1 for f in files])
    test = _chosen_for_test(files, labels, test_share, seed, folder)
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:40] or "images"
    mark = hashlib.sha256(b"".join(t.numpy().tobytes() for t in (images, labels, test)))
    kept = sum(picture.as_it_is for picture in pictures)
    _say(folder, len(files), len(classes), inverted, kept, others)
    images = unit_interval(images, 255)
    parts = (images[~test], labels[~test], images[test], labels[test])
    return Dataset(f"folder-{name}-{mark.hexdigest()[:6]}", *parts, classes)


def _say(folder: Path, count: int, classes: int, inverted: int, kept: int, others: list) -> None:
    """Print in one line what was made of the image files."""
    of = f"{classes} class{'es' * (classes > 1)}" if classes else "without labels"
    did = [f"{count} images, {of}"]
    did += [f"{inverted} dark on light: inverted"] * (inverted > 0)
    did += [f"{count - kept} resized and centred as MNIST is"] * (kept < count)
    did += [f"{kept} taken as they are, 28x28"] * (kept > 0)
    did += [f"no images, left out: {_some(others)}"] * (len(others) > 0)
    print(f"{folder}: {'; '.join(did)}")


def _some(paths: list[Path]) -> str:
    """Name three of the files, and how many more there are."""
    names = ", ".join(path.name for path in paths[:3])
    return names + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _list_files(folder: Path) -> tuple[list[File], list[Path]]:
    """Return the image files below `folder` in order, and the other files; no hidden ones."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name one with image files in it")
    files, others = [], []
    for path in sorted(_paths_below(folder)):
        way = path.relative_to(folder).parts
        if any(name.startswith((".", "__")) for name in way):
            continue
        if path.suffix.lower() not in (*IMG_EXTENSIONS, ".gif"):
            others.append(path)
            continue
        part = PARTS.get(way[0].lower()) if len(way) > 1 else None
        inner = way[:-1] if part is None else way[1:-1]
        files.append(File(path, part, inner[0] if inner else None))
    if not files:
        raise InputError(f"{folder} holds no image files ({', '.join(IMG_EXTENSIONS)}, .gif)")
    tops = {file.path.relative_to(folder).parts[0] for file in files}
    if any(name.lower() in PARTS for name in tops):
        for name in sorted(tops):
            if name.lower() in OTHER_PARTS:
                raise InputError(
                    f"{folder / name} lies beside train or test: rename it test, or move it away"
                )
    if len({file.part for file in files}) == 2 and None in {file.part for file in files}:
        raise InputError(f"{folder} holds images both within and beside train and test: move them")
    if {file.label for file in files} > {None}:
        loose = [file.path for file in files if file.label is None]
        raise InputError(
            f"{folder} holds images both within and beside folders of classes ({_some(loose)}): "
            "move them, since they have no label"
        )
    return files, others


def _paths_below(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder`, through links to folders too, each folder once."""
    seen = set()
    for at, below, names in os.walk(folder, followlinks=True):
        if os.path.realpath(at) in seen:
            below.clear()
            continue
        seen.add(os.path.realpath(at))
        yield from (Path(at, name) for name in names)


def _chosen_for_test(
    files: list[File], labels: Tensor, share: float, seed: int, folder: Path
) -> Tensor:
    """Return which images are to test on, `(N,)`: as the folder says, or a share drawn by `seed`.

    The share is of each class. A share of 0 or 1 leaves one of the two parts empty.
    """
    parts = {file.part for file in files}
    if parts == {0, 1}:
        return torch.tensor([file.part == 1 for file in files])
    if parts != {None}:
        only = "train" if parts == {0} else "test"
        raise InputError(f"{folder} holds images in {only} alone: name {folder / only} itself")
    if 0 < share < 1 and len(files) < LEAST:
        raise InputError(
            f"{folder} holds too few images to train and test on, {len(files)} "
            f"({_some([file.path for file in files])}): add some, {LEAST} at least"
        )
    if 0 < share < 1:
        share = min(max(share, 1 / len(files)), 1 - 1 / len(files))
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order].argsort(stable=True)]
    # where the share of all images so far passes a whole number, hence evenly over the classes
    passed = (torch.arange(len(files) + 1).double() * share + 1e-6).floor().diff() > 0
    test = torch.zeros(len(files), dtype=torch.bool)
    test[order[passed]] = True
    return test


def _white_on_black(pictures: list[Picture]) -> tuple[Tensor, int]:
    """Return the images, `(N, 28, 28)`, levels 0..255, and how many were inverted.

    A picture whose border does not say what it is goes with most of those whose border does.
    """
    says = [picture.inverted for picture in pictures]
    most = says.count(True) > says.count(False)
    inverted = [most if said is None else said for said in says]
    chosen = [
        picture.dark_on_light if dark else picture.light_on_dark
        for picture, dark in zip(pictures, inverted, strict=True)
    ]
    return torch.from_numpy(np.stack(chosen)), sum(inverted)


def _read_all(paths: list[Path], box: int) -> list[Picture]:
    """Read the image files; InputError, which counts them, if some are none."""
    pictures, wrong = [], []
    with progress_bar(None, len(paths), "file", "image files") as bar:
        for path in paths:
            try:
                pictures.append(_read(path, box))
            except InputError as error:
                wrong.append((path, error))
            bar.update()
    if len(wrong) > 1:
        raise InputError(
            f"{len(wrong)} of {len(paths)} image files cannot be used "
            f"({_some([path for path, _ in wrong])}): of the first, {wrong[0][1]}"
        )
    if wrong:
        raise wrong[0][1]
    return pictures


def _read(path: Path, box: int) -> Picture:
    """Read an image file; InputError if it is none."""
    try:
        with Image.open(path) as image:
            grey = _grey_levels(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} cannot be read as an image ({reason}): mend it, or move it away"
        ) from error
    low, high = grey.min(), grey.max()
    if high - low < 0.1:
        raise InputError(f"{path} shows nothing, it is of one grey: move it away")
    light = (_border(grey) > (low + high) / 2).mean()
    inverted = None if CLEAR >= light >= 1 - CLEAR else bool(light > CLEAR)
    as_it_is = grey.shape == (SIZE, SIZE)
    levels = [_as_it_is(x) if as_it_is else _fit(x, box) for x in (grey, 1 - grey)]
    levels = [np.rint(255 * x).astype(np.uint8) for x in levels]
    return Picture(*levels, inverted, as_it_is)


def _grey_levels(image: Image.Image) -> np.ndarray:
    """Return an image's grey levels in [0, 1], `(H, W)`, reduced to LARGEST at most.

    What is transparent shows the opposite of the rest: white where that is dark, else black.
    """
    image = ImageOps.exif_transpose(image)  # as a camera was held
    if image.mode.startswith(("I", "F")):  # 16 bits, which conversion would cut off at 255
        levels = np.asarray(image, np.float32)
        if not 0 <= levels.min() <= levels.max() <= 65535:  # true for NaN too
            raise ValueError("its grey levels are not from 0 to 65535")
        scales = (1,) * (image.mode == "F") + (255, 4095, 65535)  # of floats, 8, 12 and 16 bits
        white = next(scale for scale in scales if levels.max() <= scale)
        image = Image.fromarray(levels * np.float32(255 / white))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        levels, opaque = np.asarray(image.convert("RGB").convert("L")), np.asarray(image)[..., 3]
        white = np.average(levels, weights=opaque) < 128 if opaque.any() else True
        behind = Image.new("RGBA", image.size, (255 * white,) * 3 + (255,))
        image = Image.alpha_composite(behind, image)
    if image.mode != "F":
        image = Image.fromarray(np.asarray(image.convert("RGB").convert("L"), np.float32))
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
    return np.asarray(image, np.float32) / 255


def _fit(grey: np.ndarray, box: int) -> np.ndarray:
    """Fit what is white on `grey`, `(H, W)`, into box x box pixels, centred by mass in 28x28."""
    white = _stretched(grey)
    rows, columns = (np.flatnonzero((white > INK).any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((SIZE, SIZE), np.float32)
    shown = white[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = box / max(shown.shape)
    height, width = (max(1, round(scale * side)) for side in shown.shape)
    small = Image.fromarray(shown).resize((width, height), Image.Resampling.BICUBIC)
    small = np.asarray(small).clip(0)
    small = small / small.max()
    fitted = np.zeros((SIZE, SIZE), np.float32)
    top, left = (
        int(np.clip(round(SIZE / 2 - centre), 0, SIZE - side))
        for centre, side in zip(_centre_of_mass(small), small.shape, strict=True)
    )
    fitted[top : top + height, left : left + width] = small
    return fitted


def _as_it_is(grey: np.ndarray) -> np.ndarray:
    """Return a 28x28 image; only a background that is not black is made so."""
    return _stretched(grey) if np.median(_border(grey)) > 0.1 else grey


def _stretched(grey: np.ndarray) -> np.ndarray:
    """Return an image with its background, as the border has it, black, and its brightest white."""
    border = _border(grey)
    border = border[border < (grey.min() + grey.max()) / 2]  # without what is cut off by the frame
    background = np.quantile(border, 0.75) if len(border) else grey.min()
    return (grey - background).clip(0) / max(grey.max() - background, 1e-6)


def _border(grey: np.ndarray) -> np.ndarray:
    """Return the outermost pixels of an image."""
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _centre_of_mass(x: np.ndarray) -> list[float]:
    """Return the mean row and the mean column, weighted by the grey levels."""
    return [
        float(np.average(np.arange(side), weights=x.sum(1 - axis)))
        for axis, side in enumerate(x.shape)
    ]
