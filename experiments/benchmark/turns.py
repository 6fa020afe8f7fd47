"""Contenders that take turns, each in a process of its own, as its user would run it.

Each round begins with another contender, so that what else the machine does slows all alike.
"""

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
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.training.stopping import Interrupted

# Rounds of a process; then a new one takes over. Two processes of the same work can differ by a
# tenth in all their rounds, presumably by where their memory lies.
LIFE = 3
# by name: a function of `experiments.benchmark.contenders`, and its options
Contenders = dict[str, tuple[Callable[..., Work], dict]]


def take_turns(
    contenders: Contenders, rounds: int, what: str, device: str = "cpu"
) -> dict[str, dict]:
    """Return each contender's `seconds` of every round, last `result` and `peak_mib` of memory."""
    records: dict[str, dict] = {name: {"seconds": []} for name in contenders}
    names, ends, processes = list(contenders), {}, {}
    for number in tqdm(range(rounds), desc=what, unit="round"):
        if number % LIFE == 0:
            for name, (make, options) in contenders.items():
                ends[name], processes[name] = _start(name, make, options, device)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            with _alive(name):
                ends[name].send(True)
                records[name]["seconds"].append(ends[name].recv())
        if (number + 1) % LIFE == 0 or number + 1 == rounds:
            for name, end in ends.items():
                with _alive(name):
                    end.send(False)
                    records[name]["result"], records[name]["peak_mib"] = end.recv()
                processes[name].join()
    return records


def _start(
    name: str, make: Callable[..., Work], options: dict, device: str
) -> tuple[Connection, BaseProcess]:
    """Start a contender's process and wait for its first work; return a connection to it too."""
    context = multiprocessing.get_context("spawn")
    end, other = context.Pipe()
    process = context.Process(target=_serve, args=(other, make, options, device), daemon=True)
    # The process inherits this: Ctrl-C ends the parent alone, which then ends its children.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, before)
    other.close()  # otherwise the parent would wait for a contender that has died
    with _alive(name):
        end.recv()
    return end, process


def _serve(connection: Connection, make: Callable[..., Work], options: dict, device: str) -> None:
    """Do one round of work whenever the parent sends True; run in the contender's process."""
    # The parent has gone, or stops.
    with suppress(EOFError, BrokenPipeError, Interrupted, KeyboardInterrupt):
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
        result = result.value if isinstance(result, Estimate) else result
        connection.send((result if isinstance(result, np.ndarray) else None, peak_mib(device)))


@contextmanager
def _alive(name: str) -> Iterator[None]:
    """End the run if a contender's process is found to have died in this block."""
    try:
        yield
    except (EOFError, OSError):
        raise SystemExit(
            f"error: the contender {name!r} died; see above, if it could say why"
        ) from None


def finish(device: str) -> None:
    """Wait for the device's work to end: a GPU's goes on after the call that asked for it."""
    if device == "mps":
        torch.mps.synchronize()
    elif device != "cpu":
        torch.cuda.synchronize(device)


def peak_mib(device: str = "cpu") -> float | None:
    """Return the most memory this process has held on the device, in MiB; None if it is unknown.

    For the CPU it is known on Linux alone. getrusage would not do: in a new process its peak
    starts at the parent's.
    """
    if device == "mps":
        return None
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        status = Path("/proc/self/status").read_text("utf-8")
    except OSError:
        return None
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def compared(records: dict[str, dict], images: int, base: str) -> dict[str, dict]:
    """Return images per second, median and quartiles, and the speed relative to `base`.

    The relative speed is the median over rounds of the ratio within a round.
    """
    table = {}
    base_seconds, base_result = np.array(records[base]["seconds"]), records[base]["result"]
    for name, record in records.items():
        seconds, result = np.array(record["seconds"]), record["result"]
        low, middle, high = np.quantile(images / seconds, [0.25, 0.5, 0.75])
        ratios = base_seconds / seconds
        table[name] = {
            "images_a_second": float(middle),
            "quartiles": [float(low), float(high)],
            "times_as_fast": float(np.median(ratios)),
            "times_as_fast_quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
            "rounds": len(ratios),
            "peak_mib": record["peak_mib"],
        }
        if result is not None:
            table[name]["log_p"] = mean_interval(result)
            table[name]["log_p_minus_base"] = mean_interval(result - base_result)
    return table
