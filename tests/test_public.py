"""What a user imports: the public names, their examples, the README's code, and a built wheel."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch

import pyro_vae
from tests.commands import ROOT

MODULES = [m.name for m in pkgutil.walk_packages(pyro_vae.__path__, "pyro_vae.")]
EXAMPLES = {
    example.name: example
    for module in MODULES
    for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))
    if example.examples
}


def test_every_public_name_is_there_and_says_what_it_is():
    assert len(pyro_vae.__all__) == len(set(pyro_vae.__all__))
    for name in pyro_vae.__all__:
        thing = getattr(pyro_vae, name)
        assert thing.__name__ == name
        assert thing.__doc__
        assert name in dir(pyro_vae)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pyro_vae.nothing


def test_editors_are_told_the_same_names():
    tree = ast.parse(Path(pyro_vae.__file__).read_text())
    (told,) = (node for node in tree.body if isinstance(node, ast.If))
    names = {a.name: node.module for node in told.body for a in node.names}
    assert names == {name: f"pyro_vae.{room}" for name, room in pyro_vae._PUBLIC.items()}


def test_importing_the_package_loads_neither_torch_nor_pyro():
    code = (
        "import sys, pyro_vae; print([m for m in ('torch', 'pyro', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_has_an_example():
    shown = {name.rpartition(".")[2] for name in EXAMPLES}
    assert {*pyro_vae.__all__} - shown == set()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where an example writes
    torch.manual_seed(0)
    example = EXAMPLES[name]
    assert "from pyro_vae." not in example.docstring, "examples import from pyro_vae alone"
    output: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=output.append)
    assert result.failed == 0, "".join(output)


def test_the_example_of_networks_of_your_own_runs():
    """`docs/data.md`: colour images through a decoder and encoder of the user's."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/data.md").read_text(), re.S)
    made = {"print": print}
    exec(block, made)
    assert made["x"].shape == (50, 3, 32, 32)
    assert len(made["model"].image_shape) == 3


def test_the_readmes_examples_print_what_it_says(tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text()
    programs, autoencoder = re.findall(r"```python\n(.*?)```", text, re.S)
    (said,) = re.findall(r"```text\n(.*?)```", text, re.S)
    exec(programs, {})
    printed = capsys.readouterr().out
    found, expected = (
        [float(number) for number in re.findall(r"-?[\d.]+", lines)] for lines in (printed, said)
    )
    assert found == pytest.approx(expected, abs=0.11)  # another torch may round the other way
    monkeypatch.chdir(tmp_path)
    exec(autoencoder.replace("epochs=100", "epochs=8"), {})
    assert capsys.readouterr().out.splitlines()[-1] == "to be trusted"


def test_the_readme_imports_from_pyro_vae_alone():
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("pyro_vae"):
                assert node.module == "pyro_vae"
                assert {name.name for name in node.names} <= {*pyro_vae.__all__}


WINDOWS = """
import sys
for name in ("fcntl", "resource"):
    sys.modules[name] = None
import select; select.__dict__.pop("poll", None)
import signal; signal.__dict__.pop("SIGPIPE", None)
"""
USE = """
import importlib, pkgutil
import pyro, torch
import pyro.distributions as dist
import pyro_vae
for module in pkgutil.walk_packages(pyro_vae.__path__, "pyro_vae."):
    importlib.import_module(module.name)

def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)

def guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.8 * x, 0.2**0.5).to_event(1))

x = torch.tensor([[0.3, -1.0]])
result = pyro_vae.log_likelihood(model, guide, x, num_samples=50)
exact = dist.Normal(0.0, 1.25**0.5).log_prob(x).sum()  # the guide is the posterior
assert abs(result.value[0] - float(exact)) < 1e-4, (result.value, exact)
print(pyro_vae.__file__)
"""


def test_the_package_imports_and_scores_without_posix_modules():
    code = f"{WINDOWS}\nimport experiments.question_a.__main__\n{USE}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.scripts
def test_a_wheel_scores_a_model_of_the_users_own(tmp_path):
    """Built, installed away from the clone, beside the libraries that are installed here."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    built = subprocess.run([*map(str, build)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("pyro_vae-*.whl")
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    folder = Path(site.stdout.strip())
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", folder, wheel]
    subprocess.run([*map(str, install)], capture_output=True, check=True)
    # the libraries, but not the editable install of this package
    libraries = Path(torch.__file__).parents[1]
    (folder / "libraries.pth").write_text(str(libraries))
    assert (folder / "pyro_vae" / "py.typed").is_file()
    done = subprocess.run(
        [python, "-W", "ignore", "-c", USE], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(home))
