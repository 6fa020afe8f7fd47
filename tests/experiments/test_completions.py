"""The script that completes digits, in small."""

import json

import pytest
import torch

from experiments.completions import first_of_each_digit
from tests.commands import run_script


def test_the_images_are_the_first_of_their_digits():
    assert first_of_each_digit(torch.tensor([7, 7, 2, 7, 1, 2, 0]), 3) == [0, 2, 4]


@pytest.mark.scripts
def test_the_script_writes_its_figure_and_metrics(tmp_path):
    few = ["--dataset", "digits", "--epochs", 1, "--latent-dim", 2, "--num-samples", 100]
    done = run_script("completions", *few, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "digits" / "completions_d2"
    assert (folder / "completions.png").is_file()
    rows = json.loads((folder / "metrics.json").read_text())["images"]
    assert len({row["digit"] for row in rows}) == 6
    assert all(row["log_p_lower_given_upper"] < 0 < row["se"] for row in rows)
