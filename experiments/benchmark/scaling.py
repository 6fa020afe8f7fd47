"""How cost falls with processes and threads."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm


def scaling(args: argparse.Namespace, images: int, rounds: int) -> dict[str, dict]:
    """Seconds of training and of log p(x), by processes of torchrun and threads of each.

    Keyed by both: "2 x 1" is two processes of one thread. Training is one epoch and the test ELBO
    after it. Medians, and the least and the most, of rounds in which the settings take turns.
    """
    cores = available_cores()
    settings = sorted({(1, 1), (1, 2), (2, 1), (1, cores), (cores, 1)})
    if args.device != "cpu":  # a process for each GPU; with one there is nothing to compare
        gpus = torch.cuda.device_count()
        settings = [(1, 1), (gpus, 1)] if gpus > 1 else []
    seconds: dict[str, list[dict]] = {f"{p} x {t}": [] for p, t in settings}
    for _ in tqdm(range(rounds), desc="processes", unit="round", disable=not settings):
        for processes, threads in settings:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
                command += [f"--nproc-per-node={processes}", "-m", "experiments.distributed"]
                command += ["--dataset", args.dataset, "--results", folder, "--images", images]
                command += ["--latent-dim", args.latent_dim, "--epochs", 1]
                command += ["--device", torch.device(args.device).type]
                # the same work for all
                command += ["--batch-parts", max(2, cores, *(count for count, _ in settings))]
                if args.data_root:
                    command += ["--data-root", args.data_root]
                done = subprocess.run(
                    [str(word) for word in command],
                    capture_output=True,
                    text=True,
                    env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                )
                if done.returncode:
                    raise SystemExit(f"error: {processes} processes died: {done.stderr[-1000:]}")
                (path,) = Path(folder).rglob("metrics.json")
                seconds[f"{processes} x {threads}"].append(json.loads(path.read_text())["seconds"])
    return {
        setting: {
            part: {
                "median": statistics.median(one[key] for one in found),
                "range": [min(one[key] for one in found), max(one[key] for one in found)],
            }
            for part, key in (("train_seconds", "train_or_load"), ("score_seconds", "score"))
        }
        for setting, found in seconds.items()
    }


def available_cores() -> int:
    """The cores that this process may use, at most 8: more processes say nothing new."""
    known = getattr(os, "sched_getaffinity", None)  # absent from macOS
    return min(8, len(known(0)) if known else os.cpu_count() or 1)
