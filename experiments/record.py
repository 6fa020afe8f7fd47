"""What a script leaves behind: figures, and metrics as JSON with all that they depend on."""

import argparse
import json
import math
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch
from matplotlib.figure import Figure

from experiments.cli import TRAINING, results_root
from pyro_vae import parallel
from pyro_vae.analysis.plots import save_figure
from pyro_vae.data.dataset import Dataset
from pyro_vae.networks.precision import resolve_precision
from pyro_vae.storage.files import atomic_write, lock_folder, replace

PACKAGES = ("torch", "torchvision", "pyro-ppl", "numpy", "scipy", "scikit-learn")


class Results:
    """The results of one run in a folder of their own, which no other run may write to.

    Each investigation is written as soon as it is finished, to metrics.unfinished.json, so that a
    run that stops has not been for nothing; `finish` makes that metrics.json, which until then is
    the last finished run's. Set `training` to the config of what was trained or loaded.
    """

    def __init__(self, args: argparse.Namespace, data: Dataset, name: str):
        self.args, self.data = args, data
        self.folder = results_root(args, data) / name
        self.unfinished = self.folder / "metrics.unfinished.json"
        self.training: dict = {}
        self.metrics: dict = {}
        self.provenance = provenance()
        parallel.by_first(lambda: lock_folder(self.folder))  # of several processes the first writes
        print(f"results: in {self.folder}")

    def add(self, name: str, metrics: object, **figures: Figure) -> None:
        """Write what an investigation has measured, as the entry `name`, and its figures."""
        self.draw(**figures)
        self.metrics[name] = metrics
        # without the folder, and without training options left at their defaults
        unsaid = {"results", "given", *TRAINING} - {*self.args.given}
        options = {k: v for k, v in vars(self.args).items() if k not in unsaid}
        content = {
            "dataset": self.data.name,
            "classes": list(self.data.classes),
            **self.metrics,
            "options": {k: str(v) if isinstance(v, Path) else v for k, v in options.items()},
            "training": self.training,
            "provenance": self.provenance,
        }
        with atomic_write(self.unfinished) as partial:
            text = json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"
            partial.write_text(text, "utf-8", newline="\n")

    def finish(self) -> None:
        """Put the metrics in the place of those of the last run."""
        replace(self.unfinished, self.folder / "metrics.json")

    def draw(self, **figures: Figure) -> None:
        """Write figures by their names."""
        for name, figure in figures.items():
            save_figure(figure, self.folder / f"{name}.png", self.data.name)


def provenance() -> dict[str, object]:
    """Return what a result depends on beside its options: versions, git revision, machine."""
    git = ["git", "-C", str(Path(__file__).parents[1])]

    def ask(*words: str) -> str:
        return subprocess.run(
            [*git, *words], capture_output=True, encoding="utf-8", check=True, timeout=10
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


def _finite(value: object) -> object:
    """Return `value` with NaN and infinities as null: JSON has no others."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
