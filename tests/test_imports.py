"""Imports in the package run downwards only, from room to room, and without circles.

What a module imports is read from its source, so that an import inside a function counts too.
"""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.commands import ROOT

# From the ground up. The package itself, whose names users import, stands on all of them.
ROOMS = (
    ("errors",),
    ("complaints", "seeds", "memory"),
    ("watch",),
    ("parallel",),
    ("progress",),
    ("programs",),
    ("storage",),
    ("data",),
    ("likelihood",),
    ("networks",),
    ("priors",),
    ("models",),
    ("training",),
    ("guides",),
    ("accuracy",),
    ("shards",),
    ("analysis",),
    ("problems", "explorer"),
    ("vae",),
    ("",),
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}


def module_names(root):
    """The modules of the package below `root`, by their dotted names."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((root / "pyro_vae").rglob("*.py"))
    }


def imports(name, path, modules):
    """The modules of this project that module `name` imports."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            inner = [f"{source}.{each.name}" for each in node.names]
            named = [each if each in modules else source for each in inner]
        else:
            continue
        ours = ("pyro_vae", "experiments", "tests")
        yield from (each for each in named if each.partition(".")[0] in ours)


def room(module):
    return f"{module}.".split(".")[1]


def violations(root):
    """Each wrong import, or circle of imports, below `root`, as one line."""
    modules, lines, graph = module_names(root), [], {}
    for name, path in modules.items():
        graph[name] = set(imports(name, path, modules)) - {name}
        for other in sorted(graph[name]):
            if other not in modules:
                lines.append(f"{name} imports {other}, which is no module of the package")
            elif FLOOR[room(other)] > FLOOR[room(name)]:
                lines.append(f"{name} imports {other}, which lies above it")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        lines.append(f"a circle: {' imports '.join(reversed(error.args[1]))}")
    return lines


def test_every_module_is_in_a_room():
    assert {room(name) for name in module_names(ROOT)} <= {*FLOOR}


def test_imports_run_downwards_only():
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import pyro_vae.guides.prior", "imports pyro_vae.guides.prior, which lies above it"),
        ("def f():\n    from pyro_vae import guides", "imports pyro_vae.guides, which lies above"),
        ("from ..guides import prior", "imports pyro_vae.guides.prior, which lies above it"),
        ("from pyro_vae import Model", "imports pyro_vae, which lies above it"),
        ("from tests.shapes import x", "imports tests.shapes, which is no module of the package"),
        ("import experiments", "imports experiments, which is no module of the package"),
        ("from .intervals import x", "a circle: pyro_vae.likelihood."),
        ("from pyro_vae.likelihood import traces\nimport torch", None),
    ],
)
def test_a_wrong_import_is_seen(tmp_path, source, said):
    """In a package in small: likelihood/psis.py, which likelihood/intervals.py imports."""
    files = {
        "guides/prior": "",
        "guides/__init__": "",
        "likelihood/intervals": "from . import psis",
        "likelihood/psis": source,
        "likelihood/traces": "",
        "likelihood/__init__": "",
        "__init__": "",
    }
    for name, text in files.items():
        path = tmp_path / "pyro_vae" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    lines = violations(tmp_path)
    assert len(lines) == (said is not None)
    assert all(said in line for line in lines)
