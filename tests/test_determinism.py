"""Every experiment twice: the same metrics to the last digit, and the same figures byte for byte.

It takes long, and so is not among the tests that run by default: `pytest -m slow` runs it. The
benchmark is left out: its numbers are times.
"""

import json

import pytest

from tests.commands import run_script

GUIDES = ["compare_guides", "--images", 20, "--guide-epochs", 1, "--latent-dim", 2]
SCRIPTS = [
    ["question_a"],
    ["question_b", "--images", 20],
    ["question_c", "--images", 20, "--seeds", 2],
    ["question_d", "--images", 20, "--failure-epochs", 1],
    [*GUIDES, "--frozen-decoder"],
    GUIDES,
    ["distributed", "--images", 100],
    ["equal_quality", "--images", 20, "--pairs", 2],
]


def of_the_run(metrics: object) -> object:
    """`metrics` without what no two runs share: seconds."""
    if isinstance(metrics, list):
        return [of_the_run(item) for item in metrics]
    if not isinstance(metrics, dict):
        return metrics
    return {key: of_the_run(item) for key, item in metrics.items() if not key.startswith("seconds")}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", SCRIPTS, ids=lambda command: " ".join(map(str, command)))
def test_an_experiment_run_twice_gives_the_same(tmp_path, command):
    written = []
    for folder in ("once", "twice"):
        options = ["--dataset", "digits", "--results", tmp_path / folder]
        if command is not GUIDES:  # which trains each guide with a generator of its own
            options += ["--epochs", 1]
        done = run_script(*command, *options)
        assert done.returncode == 0, done.stderr
        (metrics,) = (tmp_path / folder).rglob("metrics.json")
        figures = {path.name: path.read_bytes() for path in metrics.parent.glob("*.png")}
        written.append((of_the_run(json.loads(metrics.read_text())), figures))
    (metrics, figures), (again, figures_again) = written
    assert metrics == again
    assert figures.keys() == figures_again.keys()
    different = [each for each, content in figures.items() if content != figures_again[each]]
    assert different == []
