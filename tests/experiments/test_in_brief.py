"""Three questions in brief, in small."""

import json

import pytest

from tests.commands import run_script_on_few


@pytest.mark.scripts
def test_the_script_writes_a_figure_a_question(tmp_path):
    few = ["--dataset", "digits", "--images", 20]
    done = run_script_on_few("in_brief", *few, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "digits" / "in_brief"
    names = {path.name for path in folder.iterdir()}
    assert names == {"question_b.png", "question_c.png", "question_d.png", "metrics.json"}
    gains = json.loads((folder / "metrics.json").read_text())["gains"]
    assert gains["all"]["images"] == 20
    assert sum(gain["images"] for gain in gains["by_class"].values()) == 20
    assert f"d = 20 gains {gains['all']['mean']:.1f} nats" in done.stdout
