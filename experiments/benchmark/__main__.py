"""Speed, side by side: training and log p(x) against the appendix written plainly in PyTorch.

Every contender runs in a process of its own, as its user would run it, renewed every few rounds;
they take turns, so that what else the machine does falls on all alike. Beyond speed: how far this
package is from what the processor can do, and how cost grows with the work. That both come to the
same quality is for `experiments.equal_quality` to show.

    python -m experiments.benchmark
"""

import argparse
import importlib.util
import json
import math
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from experiments.benchmark.contenders import (
    Work,
    fresh_weights,
    our_likelihood,
    our_training,
    ours,
    plain_likelihood,
    plain_training,
    pyro_likelihood,
    pythae_likelihood,
    refined_likelihood,
)
from experiments.cli import (
    TRAINING,
    announce_and_load,
    check_at_least,
    folder_name,
    make_parser,
    reject_options,
    run,
)
from experiments.record import Results
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.networks.appendix import State
from pyro_vae.networks.precision import resolve_precision
from pyro_vae.training.fit import fit
from pyro_vae.training.stopping import Interrupted

SEED = 6
# Rounds of a process; another takes the contender's next. Two processes of the same work can differ
# by a tenth from their first round to their last, presumably by where their memory lies.
LIFE = 3
Contenders = dict[str, tuple[Callable[..., Work], dict]]


# ---------------------------------------------------------------- taking turns


def serve(connection: Connection, make: Callable[..., Work], options: dict, device: str) -> None:
    """A contender's process: one round of work at each word from the other end."""
    with suppress(EOFError, BrokenPipeError, Interrupted, KeyboardInterrupt):  # the run is over
        if "images" in options:
            options["images"] = options["images"].to(device)
        work = make(**options)
        result = work()  # the first is slower: not timed
        finish(device)
        connection.send("ready")
        while connection.recv():
            start = time.perf_counter()
            result = work()
            finish(device)
            connection.send(time.perf_counter() - start)
        connection.send((result if isinstance(result, np.ndarray) else None, peak_mib(device)))


def finish(device: str) -> None:
    """Wait until the device has done what it was given: a GPU works on by itself."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def peak_mib(device: str = "cpu") -> float | None:
    """The most memory of the device this process has held, in MiB; None if that cannot be told.

    Of the processor's it is known on Linux. Not getrusage's: that of a new process starts at its
    parent's.
    """
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def take_turns(
    contenders: Contenders, rounds: int, what: str, device: str = "cpu"
) -> dict[str, dict]:
    """Each contender's `seconds` of every round, its last `result`, its `peak_mib` of memory."""
    found: dict[str, dict] = {name: {"seconds": []} for name in contenders}
    names, ends, processes = list(contenders), {}, {}
    for number in tqdm(range(rounds), desc=what, unit="round"):
        if number % LIFE == 0:
            for name, (make, options) in contenders.items():
                ends[name], processes[name] = start(name, make, options, device)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            with alive(name):
                ends[name].send(True)
                found[name]["seconds"].append(ends[name].recv())
        if (number + 1) % LIFE == 0 or number + 1 == rounds:
            for name, end in ends.items():
                with alive(name):
                    end.send(False)
                    found[name]["result"], found[name]["peak_mib"] = end.recv()
                processes[name].join()
    return found


def start(
    name: str, make: Callable[..., Work], options: dict, device: str
) -> tuple[Connection, BaseProcess]:
    """A contender's process, once it has done its first work, and the way to talk to it."""
    context = multiprocessing.get_context("spawn")
    end, other = context.Pipe()
    process = context.Process(target=serve, args=(other, make, options, device), daemon=True)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C ends this process,
    process.start()  # which ends the others
    signal.signal(signal.SIGINT, before)
    other.close()  # so that a contender that dies ends the run, and is not waited for
    with alive(name):
        end.recv()
    return end, process


@contextmanager
def alive(name: str) -> Iterator[None]:
    """Talk to a contender's process in this block; if it has ended by itself, so does the run."""
    try:
        yield
    except (EOFError, OSError):
        raise SystemExit(
            f"error: the contender {name!r} died; see above, if it could say why"
        ) from None


def compared(found: dict[str, dict], images: int, base: str) -> dict[str, dict]:
    """Images a second, median and quartiles, and how many times as fast as `base`.

    The latter is the median over the rounds of the ratio within a round.
    """
    table = {}
    for name, row in found.items():
        low, middle, high = np.quantile(images / np.array(row["seconds"]), [0.25, 0.5, 0.75])
        ratios = np.array(found[base]["seconds"]) / np.array(row["seconds"])
        table[name] = {
            "images_a_second": float(middle),
            "quartiles": [float(low), float(high)],
            "times_as_fast": float(np.median(ratios)),
            "times_as_fast_quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
            "rounds": len(ratios),
            "peak_mib": row["peak_mib"],
        }
        if row["result"] is not None:
            table[name]["log_p"] = mean_interval(row["result"])
            table[name]["log_p_minus_base"] = mean_interval(row["result"] - found[base]["result"])
    return table


# ---------------------------------------------------------------- the same work


def speed(x: Tensor, state: State, rounds: int, device: str) -> dict:
    """Training and log p(x), each contender against the plain way."""
    some = {"images": x[:2000], "state": state}
    training: Contenders = {
        "plain": (plain_training, some),
        "plain, memory kept": (plain_training, some | {"keep": True}),
        "ours, float32": (our_training, some | {"precision": "float32"}),
    }
    bfloat16 = resolve_precision("auto", device) == "bfloat16"
    if bfloat16:
        rounded = some | {"precision": "bfloat16"}
        training["ours, bfloat16 guide"] = (our_training, rounded)
        closed = rounded | {"elbo": TraceMeanField_ELBO}
        training["ours, bfloat16, closed KL"] = (our_training, closed)
    some = {"images": x[:200], "state": state, "num_samples": 100}
    scoring: Contenders = {
        "plain": (plain_likelihood, some),
        "plain, memory kept": (plain_likelihood, some | {"keep": True}),
        "ours": (our_likelihood, some),
        "ours, memory not kept": (our_likelihood, some | {"keep": False}),
        "Pyro, image by image": (pyro_likelihood, some),
    }
    if importlib.util.find_spec("pythae"):
        scoring["pythae get_nll"] = (pythae_likelihood, some)
    some = {"images": x[:100], "state": state, "num_samples": 1000}
    tighter: Contenders = {
        "plain": (plain_likelihood, some),
        "plain, memory kept": (plain_likelihood, some | {"keep": True}),
        "ours": (our_likelihood, some),
        "ours, refined": (refined_likelihood, some),
    }
    if bfloat16:
        tighter["ours, refined in bfloat16"] = (
            refined_likelihood,
            some | {"precision": "bfloat16"},
        )
    tighter["ours, refined, one start"] = (
        refined_likelihood,
        some | {"precision": "auto", "num_starts": 1},
    )
    found = {}
    for key, contenders in (
        ("training", training),
        ("log_p_100", scoring),
        ("log_p_1000", tighter),
    ):
        if device != "cpu":  # whose memory is not the C library's to keep
            contenders = {name: row for name, row in contenders.items() if "keep" not in row[1]}
        images = len(contenders["plain"][1]["images"])
        rows = take_turns(contenders, rounds, TITLES[key], device)
        found[key] = compared(rows, images, "plain")
    return found


# ---------------------------------------------------------------- the distance to the machine


def median_seconds(work: Callable[[], object], rounds: int, device: str) -> float:
    """Of `rounds` calls of `work`, after one that is not counted."""
    work()
    finish(device)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        finish(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def distance(x: Tensor, state: State, device: str) -> dict:
    """GFLOP/s of a step and of a likelihood, beside those of a product of large matrices.

    The arithmetic counted is what the networks' layers ask for, in whichever way it is done.
    """
    found: dict = {"threads": torch.get_num_threads(), "matrix_product_gflops": {}}
    size = 2048 if device == "cpu" else 8192
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(size, size).to(device, dtype)
        seconds = median_seconds(lambda a=a: a @ a, 9, device)
        found["matrix_product_gflops"][name] = 2 * size**3 / seconds / 1e9
    model, guide = ours(state, device=device)
    some, more = x[:100].to(device), x[:1000].to(device)

    def train(images: Tensor) -> None:
        fit(model, guide, (images,), epochs=1, progress=False)

    def layers() -> None:  # of one image encoded, a hundred decoded
        guide.encoder(some[:1])
        model.decoder(torch.zeros(100, model.decoder.latent_dim, device=device))

    for name, once, share, work, images in (
        ("training", lambda: train(some), len(some), lambda: train(more), len(more)),
        ("log_p_100", layers, 1, lambda: log_likelihood(model, guide, some), len(some)),
    ):
        with FlopCounterMode(display=False) as counter:
            once()
        flops = counter.get_total_flops() / share  # an image
        found[name] = {
            "mflop_an_image": flops / 1e6,
            "gflops": images * flops / median_seconds(work, 5, device) / 1e9,
        }
    return found


# ---------------------------------------------------------------- as the work grows


# images or samples that stay as they are while another thing grows
REST = {
    "images": "x 100 samples",
    "samples": "x 20 images",
    "latent dimensions": "(100 x 100)",
}


def growth(x: Tensor, state: State, device: str) -> dict[str, list[dict]]:
    """Seconds and peak memory of log p(x), as images, samples and latent dimensions grow.

    Each setting has a process of its own, so that its peak is its own.
    """
    settings = {
        "images": [
            (n, {"images": x[:n], "num_samples": 100}) for n in (100, 400, 1600) if n <= len(x)
        ],
        "samples": [(k, {"images": x[:20], "num_samples": k}) for k in (100, 1000, 10_000)],
        "latent dimensions": [
            (d, {"images": x[:100], "num_samples": 100, "state": fresh_weights(d, SEED)})
            for d in (2, 8, 32, 64)
        ],
    }
    found = {}
    for what, rows in settings.items():
        found[what] = []
        for number, options in rows:
            one = {"ours": (our_likelihood, {"state": state} | options)}
            row = take_turns(one, 3, f"{number:,} {what}", device)["ours"]
            found[what].append(
                {
                    what: number,
                    "seconds": statistics.median(row["seconds"]),
                    "peak_mib": row["peak_mib"],
                }
            )
    return found


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


# ---------------------------------------------------------------- what it shows

TITLES = {
    "training": "training",
    "log_p_100": "log p(x), 100 samples",
    "log_p_1000": "log p(x), 1,000 samples",
}


def as_text(metrics: dict) -> str:
    """The table that is printed: each contender beside the plain way, and the machine."""
    lines = []
    for key, title in TITLES.items():
        lines.append(f"{title:<28}{'images/s':>10}{'quartiles':>20}{'faster':>9}{'MiB':>8}")
        for name, row in metrics["speed"][key].items():
            low, high = row["quartiles"]
            lines.append(
                f"  {name:<26}{row['images_a_second']:>10.1f}{f'{low:.1f} to {high:.1f}':>20}"
                f"{row['times_as_fast']:>8.2f}x{row['peak_mib'] or math.nan:>8.0f}"
            )
    peak = metrics["distance"]["matrix_product_gflops"]
    lines.append(
        f"matrix products: {peak['float32']:.0f} GFLOP/s in float32, {peak['bfloat16']:.0f} in "
        f"bfloat16; training: {metrics['distance']['training']['gflops']:.0f}, "
        f"log p(x): {metrics['distance']['log_p_100']['gflops']:.0f}"
    )
    if metrics["scaling"]:
        lines.append("processes x threads         train, s   score, s")
    for setting, row in metrics["scaling"].items():
        medians = (row[part]["median"] for part in ("train_seconds", "score_seconds"))
        lines.append(f"  {setting:<24}" + "".join(f"{median:>11.1f}" for median in medians))
    return "\n".join(lines)


def benchmark_figure(metrics: dict) -> Figure:
    """Times as fast as the plain way; how seconds and memory grow."""
    figure = Figure(figsize=(13, 6.6))
    figure.set_layout_engine("constrained")
    above, below = figure.subplots(2, 3)
    for ax, (key, title) in zip(above, TITLES.items(), strict=True):
        rows = metrics["speed"][key]
        place = np.arange(len(rows))[::-1]
        times = np.array([row["times_as_fast"] for row in rows.values()])
        ends = np.array([row["times_as_fast_quartiles"] for row in rows.values()]).T
        colours = [COLOURS["posterior"] if name.startswith("ours") else "0.65" for name in rows]
        ax.barh(place, times, 0.6, color=colours, xerr=np.abs(ends - times), ecolor="0.2")
        for y, row, end in zip(place, rows.values(), ends[1], strict=True):
            rate = row["images_a_second"]
            label = f"  {rate:,.0f} img/s" if rate >= 100 else f"  {rate:.1f} img/s"
            ax.text(end, y, label, va="center", fontsize=9)
        ax.axvline(1, color="0.3", lw=0.8)
        ax.set_yticks(place, list(rows))
        ax.set(title=title, xlim=(0, 1.35 * ends[1].max()), xlabel="times as fast as plain PyTorch")
    for ax, (what, rows) in zip(below, metrics["growth"].items(), strict=True):
        numbers, seconds = [row[what] for row in rows], [row["seconds"] for row in rows]
        ax.plot(numbers, seconds, "o-", color=COLOURS["posterior"])
        if what != "latent dimensions":  # of which the first layer alone has more work
            line = [seconds[0] * number / numbers[0] for number in numbers]
            ax.plot(numbers, line, ":", color="0.4", zorder=0, label="in proportion")
            ax.legend(loc="lower right")
        memory = ax.twinx()
        peaks = [row["peak_mib"] or 0 for row in rows]
        memory.plot(numbers, peaks, "s--", color=COLOURS["guide"])
        memory.set(ylim=(0, 2 * max(1, *peaks)))
        memory.set_ylabel("peak memory, MiB (dashed)", color=COLOURS["guide"])
        memory.grid(False)
        ax.set(xscale="log", yscale="log")
        ax.set_xticks(numbers, [f"{number:,}" for number in numbers])
        ax.yaxis.set_major_locator(LogLocator(subs=[1, 2, 5]))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.set(ylim=(min(seconds) / 3, 3 * max(seconds)), xlabel=f"{what} {REST[what]}")
        ax.set_ylabel("seconds", color=COLOURS["posterior"])
        ax.set_title(f"log p(x), as the {what} grow")
    figure.suptitle("Speed, each contender in a process of its own, taking turns")
    return figure


def main() -> None:
    """Run the contenders in turns, draw the figure and write the metrics."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=20)
    parser.add_argument("--rounds", type=int, default=9, help="of each contender")
    parser.add_argument(
        "--images", type=int, default=1000, metavar="N", help="test images, for several processes"
    )
    args = parser.parse_args()
    check_at_least("--rounds", args.rounds, 1)
    check_at_least("--images", args.images, 2)
    reject_options(args, *TRAINING, "checkpoint", "train", "resume")
    data = announce_and_load(
        args,
        "benchmark: about 30 minutes on 2 cores, 6 on one GPU. Leave the machine to it.",
    )
    name = "benchmark" if args.device == "cpu" else "benchmark_gpu"
    results = Results(args, data, folder_name(args, name, 20))
    results.training = {"epochs": 1}
    start = fresh_weights(args.latent_dim, SEED)
    # weights that are no longer random
    state = our_training(data.train_images.to(args.device), start, "auto")()
    state = {name: w.cpu() for name, w in state.items()}
    x = data.test_images
    metrics = {
        "speed": speed(x, state, args.rounds, args.device),
        "distance": distance(x, state, args.device),
        "growth": growth(x, state, args.device),
        "scaling": scaling(args, args.images, min(3, args.rounds)),
    }
    print(as_text(metrics))
    results.draw(benchmark=benchmark_figure(metrics))
    for part, measured in metrics.items():
        results.add(part, measured)
    print(f"figure and metrics.json in {results.folder}")


if __name__ == "__main__":
    run(main)
