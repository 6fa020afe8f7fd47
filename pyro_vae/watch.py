"""Does every process of a group still answer? A machine may be lost without a word.

The first process looks after all others, and each of them after the first. One that waits for the
others ends, in one line, when it has lost them: it would wait for ever.
"""

import atexit
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch.distributed import Store

PERIOD = 5.0  # seconds between two looks
PATIENCE = 60.0  # seconds without an answer, after which a process is taken for lost
_waiting = threading.Event()  # whether this process waits for others


@contextmanager
def waiting() -> Iterator[None]:
    """Say that this process waits for others while the block lasts."""
    _waiting.set()
    try:
        yield
    finally:
        _waiting.clear()


def watch(store: Store, rank: int, world_size: int) -> Callable[[], None]:
    """Watch the group until the returned function is called; `store` is the watch's alone.

    Each process writes a number to the store at each look. One whose number has not changed for
    `PATIENCE`, counted in ticks of this process, is lost: it is silent, or the store is out of
    reach.
    """
    others = range(1, world_size) if rank == 0 else range(1)
    keys = [_key(other) for other in others]
    silent = dict.fromkeys(others, 0)  # ticks since the number of each has changed
    stop = threading.Event()
    store.set(_key(rank), "0")

    def looks() -> None:
        last: list[bytes] = []
        for count in itertools.count(1):
            if stop.wait(PERIOD):
                return
            try:
                store.set(_key(rank), str(count))
                answers = store.multi_get(keys)
            except RuntimeError:
                continue
            for other, answer, before in zip(others, answers, last or keys, strict=True):
                if answer != before:
                    silent[other] = 0
            last = answers

    def clock() -> None:
        """Judge apart from the looks, which hang where the store is out of reach."""
        while not stop.wait(PERIOD):
            for other in others:
                silent[other] += 1
                if silent[other] * PERIOD > PATIENCE and not stop.is_set():
                    _end(other)

    threads = [threading.Thread(target=each, daemon=True) for each in (looks, clock)]
    for thread in threads:
        thread.start()

    def leave() -> None:
        stop.set()
        for thread in threads:
            thread.join(PERIOD)

    atexit.register(leave)  # no thread must be at the store when Python ends
    return leave


def _key(rank: int) -> str:
    return f"alive/{rank}"


def _end(lost: int) -> None:
    """End this process at once, if it waits for others: its main thread can't be told."""
    if not _waiting.is_set():
        return
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"error: {lost_message(f'process {lost}')}", file=sys.stderr, flush=True)
    os._exit(1)


def lost_message(who: str) -> str:
    """Return the line that says that `who`, one process or several, was lost, and the remedy."""
    return (
        f"{who} does not answer: its machine or network is gone, or it has ended; what the first "
        "process has written is kept, and resume goes on from there"
    )
