"""Random subsets of images, and that every measure takes one."""

import re
from pathlib import Path

import numpy as np
import pytest

from pyro_vae.data.dataset import hold_out, random_positions
from pyro_vae.errors import InputError

ROOT = Path(__file__).parents[2]
# where the first images serve: four of them to look at, and work that is only timed
FIRST = {"question_d/theory.py": "[:IMAGES]", "question_c/cost.py": "[:10_000]"}


def test_positions_are_distinct_and_random():
    images = np.zeros(1000)
    chosen = random_positions(images, 400, seed=3)
    assert len(np.unique(chosen)) == 400
    assert chosen.tolist() == random_positions(images, 500, seed=3)[:400].tolist()
    assert chosen.tolist() != random_positions(images, 400, seed=4).tolist()
    assert sorted(random_positions(images, 5000, seed=3)) == list(range(1000))
    # the mean of 400 of 1,000 positions: sd 288.7 sqrt(0.6 / 400) = 11.2
    assert abs(chosen.mean() - 499.5) < 5 * 11.2


def test_images_are_held_out_with_their_labels(digits):
    data = hold_out(digits, 300)
    assert (data.name, len(data.train_images)) == ("digits-hold-out-300", 1200)
    assert (len(data.test_images), len(data.test_labels)) == (300, 300)
    known = {
        image.numpy().tobytes(): label
        for image, label in zip(digits.train_images, digits.train_labels.tolist(), strict=True)
    }
    assert len(known) == 1500
    seen = {}
    for images, labels in (
        (data.train_images, data.train_labels), (data.test_images, data.test_labels)
    ):  # fmt: skip
        for image, label in zip(images, labels.tolist(), strict=True):
            seen[image.numpy().tobytes()] = label
    assert seen == known
    with pytest.raises(InputError, match="hold_out must be from 1 to 1499 training images, not 0"):
        hold_out(digits, 0)


def test_no_script_takes_the_first_images_for_a_sample():
    """MNIST's halves differ: a measure of its first images is not one of its images."""
    found = {}
    for path in (ROOT / "experiments").rglob("*.py"):
        hits = re.findall(r"(?:train|test)_(?:images|labels)(\[ *:[^\]]*\])", path.read_text())
        if hits:
            found[str(path.relative_to(ROOT / "experiments"))] = {*hits}
    assert found.pop("distributed.py") == {"[: args.images]"}  # it says so: --images N, the first N
    assert found == {path: {hit} for path, hit in FIRST.items()}
