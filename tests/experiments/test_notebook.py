"""The coursework as a notebook: short, and it runs from top to bottom."""

import os
import re

import nbformat
import pytest
from nbclient import NotebookClient

from pyro_vae.data.loading import load_dataset
from pyro_vae.errors import InputError
from tests.commands import ROOT

PATH = ROOT / "experiments" / "coursework.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(PATH, 4)


def test_it_is_short_and_imports_public_names_alone(notebook):
    text = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(len(part.split()) for part in text) <= 1500
    assert max(len(part.splitlines()) for part in code) <= 15
    assert not re.search(r"from pyro_vae\.|import pyro_vae\.", "\n".join(code))
    assert PATH.stat().st_size < 600_000
    assert all(
        cell.get("outputs") is not None for cell in notebook.cells if cell.cell_type == "code"
    )
    assert str(ROOT) not in PATH.read_text()


@pytest.mark.scripts
def test_it_runs(notebook):
    try:
        load_dataset("mnist", root=os.environ.get("PYRO_VAE_DATA", ROOT / "data"))
    except InputError:
        pytest.skip("needs MNIST")
    os.environ.pop("MPLBACKEND", None)
    folder = {"metadata": {"path": str(PATH.parent)}}
    NotebookClient(notebook, timeout=600, resources=folder).execute()
    said = "\n".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stdout"
    )  # fmt: skip
    gain = float(re.search(r"d = 20 gains ([\d.]+) nats", said)[1])
    assert 15 < gain < 35
    assert float(re.search(r"read rightly: ([\d.]+)", said)[1]) > 0.95
