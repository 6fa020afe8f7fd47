"""Contenders that take turns, each in a process of its own."""

import multiprocessing
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from experiments.benchmark.contenders import Work
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.training.stopping import Interrupted

# Rounds of a process; another takes the contender's next. Two processes of the same work can differ
# by a tenth from their first round to their last, presumably by where their memory lies.
LIFE = 3


Contenders = dict[str, tuple[Callable[..., Work], dict]]


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
