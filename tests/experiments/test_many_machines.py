"""The time of ten million images on many machines, by hand; and that the script measures it."""

import json

import pytest

from experiments.many_machines import hours
from tests.commands import run_script


def test_machines_share_the_scoring_until_the_first_process_only_joins():
    found = hours(images_a_second=50, milliseconds_a_block=30)
    assert found["1"] == pytest.approx(10_000_000 / 50 / 3600)
    assert found["10"] == pytest.approx(found["1"] / 10)
    # 100,000 blocks of 30 ms take 3,000 s, and a hundred machines would score for 2,000 s
    assert found["100"] == pytest.approx(3000 / 3600)


@pytest.mark.scripts
def test_the_script_measures_both_rates(tmp_path):
    options = ["--dataset", "digits", "--latent-dim", "2", "--epochs", "1", "--num-samples", "10"]
    options += ["--images", "20", "--blocks", "30", "--results", tmp_path]
    done = run_script("many_machines", *options)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.rglob("metrics.json")
    metrics = json.loads(path.read_text())
    rates = metrics["images_a_second"], metrics["milliseconds_a_block"]
    assert min(rates) > 0
    assert metrics["hours"] == hours(*rates)
    assert f"{metrics['milliseconds_a_block']:.2f} ms to join a block of 100" in done.stdout
