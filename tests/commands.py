"""Running an experiment script as a user does."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import cli

ROOT = Path(__file__).parents[1]


def run_script(name: str, *options: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"experiments.{name}", *map(str, options)]
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


def check_wrong_option(
    main: Callable[[], None],
    options: list[str],
    message: str,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """`main` ends with exit code 2 and one line that says `message`, and writes no file."""
    monkeypatch.setattr(sys, "argv", ["script", "--results", str(results), *options])
    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    stderr = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in stderr
    assert len(stderr.strip().splitlines()) == 1
    files = [path.name for path in results.rglob("*") if path.is_file()]
    assert set(files) <= {".lock"}  # of the folder, held until this process ends
