"""The script that completes digits, in small."""

import json

import pytest

from tests.commands import run_script


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
