"""The script that writes the explorer's page, in small."""

import pytest

from experiments.explorer import SHOWN, shown_first
from pyro_vae import load_dataset
from tests.commands import run_script_on_few


def test_the_images_shown_are_of_all_classes():
    digits = load_dataset("digits")
    chosen = shown_first(digits, 60)
    assert len({*chosen}) == 60
    labels = digits.test_labels[chosen[:SHOWN]]
    assert labels.bincount().tolist() == [2] * 10


@pytest.mark.scripts
def test_the_script_writes_one_page(tmp_path):
    few = ["--dataset", "digits", "--epochs", 1, "--images", 20, "--closed"]
    done = run_script_on_few("explorer", *few, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    page = tmp_path / "digits" / "explorer.html"
    assert page.stat().st_size < 14e6
    assert f"{page}: " in done.stdout
    alone = ["--checkpoint", tmp_path / "digits" / "checkpoints" / "d4.pt"]
    done = run_script_on_few("explorer", *few, *alone, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert page.stat().st_size < 5e6
