"""Running an experiment script as a user does."""

import os
import subprocess
import sys
from pathlib import Path

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
