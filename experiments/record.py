"""What a script leaves: metrics as JSON, with what they depend on."""

import argparse
import json
import math
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from pyro_vae.data import Dataset
from pyro_vae.networks.precision import resolve_precision
from pyro_vae.storage.files import atomic_write

PACKAGES = ("torch", "torchvision", "pyro-ppl", "arviz", "numpy", "scipy", "scikit-learn")


def provenance() -> dict[str, object]:
    """What a result depends on beside its options: versions, git revision, machine."""
    git = ["git", "-C", str(Path(__file__).parents[1])]

    def ask(*words: str) -> str:
        return subprocess.run(
            [*git, *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        revision = ask("rev-parse", "--short=12", "HEAD")
        # changed code, not changed results: a run rewrites those
        revision += "-dirty" if ask("status", "--porcelain", "--", "*.py") else ""
    except (OSError, subprocess.SubprocessError):
        revision = "unknown"
    return {
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
        "git": revision,
        "processor": getattr(torch.cpu, "get_capabilities", dict)().get("cpu_name", "unknown"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        # of what is left to "auto" and runs on this processor
        "precision": resolve_precision("auto"),
    }


def save_metrics(
    path: Path, metrics: dict, args: argparse.Namespace, data: Dataset, config: dict
) -> None:
    """Write `metrics` as JSON, with the data set, the options, the training and the versions."""
    # but for where the results lie, which says nothing of them
    given = {k: v for k, v in vars(args).items() if k != "results"}
    options = {k: str(v) if isinstance(v, Path) else v for k, v in given.items()}
    content = {
        "dataset": data.name,
        **metrics,
        "options": options,
        "training": config,
        "provenance": provenance(),
    }
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(value: object) -> object:
    """`value` with NaN and infinities as null: JSON has no others."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
