"""Do more processes and threads make training and log p(x) faster?

A user with several cores or GPUs may start `experiments.distributed` by torchrun. This tells
whether it pays.
"""

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


def measure(args: argparse.Namespace, images: int, rounds: int) -> dict[str, dict]:
    """Time training and log p(x) by the processes of torchrun and the threads of each.

    "2 x 1" is two processes of one thread. Training is one epoch and the test ELBO after it. The
    settings take turns; medians, and the least and the most over rounds.
    """
    cores = available_cores()
    settings = sorted({(1, 1), (1, 2), (2, 1), (1, cores), (cores, 1)})
    if args.device != "cpu":  # a process for each GPU; with one there is nothing to compare
        gpus = torch.cuda.device_count()
        settings = [(1, 1), (gpus, 1)] if gpus > 1 else []
    parts = max(2, cores, *(processes for processes, _ in settings))  # the same work for all
    seconds: dict[str, list[dict]] = {f"{p} x {t}": [] for p, t in settings}
    for _ in tqdm(range(rounds), desc="processes", unit="round", disable=not settings):
        for processes, threads in settings:
            result = _seconds(args, images, parts, processes, threads)
            seconds[f"{processes} x {threads}"].append(result)
    return {
        setting: {
            part: {
                "median": statistics.median(result[key] for result in results),
                "range": [min(r[key] for r in results), max(r[key] for r in results)],
            }
            for part, key in (("train_seconds", "train_or_load"), ("score_seconds", "score"))
        }
        for setting, results in seconds.items()
    }


def _seconds(
    args: argparse.Namespace, images: int, parts: int, processes: int, threads: int
) -> dict[str, float]:
    """Run `experiments.distributed` once; return the seconds that its metrics hold."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["-m", "experiments.distributed"]
        words += ["--dataset", args.dataset, "--results", folder, "--images", images]
        words += ["--latent-dim", args.latent_dim, "--epochs", 1, "--batch-parts", parts]
        words += ["--device", torch.device(args.device).type, "--train"]
        if args.data_root:
            words += ["--data-root", args.data_root]
        by_torchrun(processes, threads, *words)
        (path,) = Path(folder).rglob("metrics.json")
        return json.loads(path.read_text("utf-8"))["seconds"]


def by_torchrun(processes: int, threads: int, *words: object) -> None:
    """Let torchrun start so many processes of so many threads, with the `words` that say which."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [str(word) for word in (*command, f"--nproc-per-node={processes}", *words)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        raise SystemExit(f"error: {processes} processes died: {done.stderr[-1000:]}")


def available_cores() -> int:
    """Return how many cores this process may use, at most 8: more processes say nothing new."""
    known = getattr(os, "sched_getaffinity", None)  # absent from macOS
    return min(8, len(known(0)) if known else os.cpu_count() or 1)


def as_text(metrics: dict[str, dict]) -> str:
    """Return the table for a terminal."""
    lines = ["processes x threads         train, s   score, s"]
    for setting, row in metrics.items():
        medians = (row[part]["median"] for part in ("train_seconds", "score_seconds"))
        lines.append(f"  {setting:<24}" + "".join(f"{median:>11.1f}" for median in medians))
    return "\n".join(lines)
