"""Every experiment twice: the same metrics to the last digit, figures and weights byte for byte.

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
    ["question_d", "--images", 20, "--failure-epochs", 1, "--failure-seeds", 1],
    [*GUIDES, "--frozen-decoder"],
    GUIDES,
    ["distributed", "--images", 100],
    ["completions", "--num-samples", 200],
    ["equal_quality", "--images", 20, "--pairs", 2],
]


def values(metrics: object, place: str = "") -> dict[str, object]:
    """Each number and text of `metrics` by its place, without what no two runs share: seconds."""
    if not isinstance(metrics, dict | list):
        return {place: metrics}
    items = metrics.items() if isinstance(metrics, dict) else enumerate(metrics)
    return {
        inner: value
        for key, item in items
        if not str(key).startswith("seconds")
        for inner, value in values(item, f"{place}/{key}").items()
    }


def different(one: dict, other: dict) -> list[str]:
    return sorted({key for key, _ in one.items() ^ other.items()})


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", SCRIPTS, ids=lambda command: " ".join(map(str, command)))
def test_an_experiment_run_twice_gives_the_same(tmp_path, command):
    written, metrics = [], []
    for folder in (tmp_path / "once", tmp_path / "twice"):
        options = ["--dataset", "digits", "--results", folder]
        if command is not GUIDES:  # which trains each guide with a generator of its own
            options += ["--epochs", 1]
        done = run_script(*command, *options)
        assert done.returncode == 0, done.stderr
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.suffix in (".png", ".pt")
        }
        assert files
        (path,) = folder.rglob("metrics.json")
        metrics.append(values(json.loads(path.read_text())))
        written.append(files)
    assert different(*written) == []
    assert different(*metrics) == []
