"""Running an experiment script as a user does."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pytest

from experiments import cli

ROOT = Path(__file__).parents[1]


def main_of(name: str) -> Callable[[], None]:
    """Return `main` of experiments/NAME.py, or of experiments/NAME/__main__.py."""
    folder = (ROOT / "experiments" / name / "__main__.py").is_file()
    return importlib.import_module(f"experiments.{name}{'.__main__' if folder else ''}").main


def run_main(main: Callable[[], None], *options: object) -> None:
    """Run `main` in this process as a user's command would; the scripts' rcParams end with it."""
    with mpl.rc_context(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["script", *map(str, options)])
        cli.run(main)


def run_script(name: str, *options: object, **environment: str) -> subprocess.CompletedProcess:
    return _run([f"experiments.{name}", *options], environment)


def run_script_on_few(name: str, *options: object) -> subprocess.CompletedProcess:
    """Run it on a third of the digits' test images, which takes a third of its time."""
    return _run(["tests.few_digits", name, *options], {})


def _run(module: list[object], environment: dict[str, str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", *map(str, module)]
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


def check_wrong_option(
    main: Callable[[], None],
    options: list[object],
    message: str,
    results: Path,
    capsys: pytest.CaptureFixture,
) -> str:
    """`main` ends with exit code 2 and one line that says `message`, and writes no file.

    A lock is no result. Returns the line.
    """
    with pytest.raises(SystemExit) as stop:
        run_main(main, "--results", results, *options)
    stderr = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in stderr
    assert len(stderr.strip().splitlines()) == 1
    names = {path.name for path in results.rglob("*") if path.is_file()}
    assert {name for name in names if not name.endswith(".lock")} == set()
    return stderr
