"""Does every process of a group still answer? A machine may be lost without a word.

The first process looks after all others, and each of them after the first. One that waits for the
others ends, in one line, when it has lost them: it would wait for ever.
"""

import atexit
import os
import sys
import threading
from collections import Counter
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

    Each process writes a number to the store at each look. One whose number has not changed for as
    many looks as `PATIENCE` has is lost, and so is the first where the store does not answer.
    """
    others = range(1, world_size) if rank == 0 else range(1)
    stop = threading.Event()
    store.set(_key(rank), "0")

    def looks() -> None:
        last: dict[int, bytes] = {}
        missed: Counter = Counter()
        count = 0
        while not stop.wait(PERIOD):
            alarm = threading.Timer(PATIENCE, _end, [0])  # a store that is out of reach may hang
            alarm.daemon = True
            alarm.start()
            count += 1
            try:
                store.set(_key(rank), str(count))
                answers = {other: store.get(_key(other)) for other in others}
            except RuntimeError:
                answers = {other: last.get(other, b"") for other in others}
            alarm.cancel()
            for other, answer in answers.items():
                missed[other] = 0 if answer != last.get(other) else missed[other] + 1
                if missed[other] * PERIOD >= PATIENCE and not stop.is_set():
                    _end(other)
            last = answers

    thread = threading.Thread(target=looks, name="watch", daemon=True)
    thread.start()

    def leave() -> None:
        stop.set()
        thread.join(PERIOD)

    atexit.register(leave)  # the thread must not be at the store when Python ends
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
        f"{who} does not answer: its machine or network is gone, or it has ended; all that was "
        "finished is kept, and resume goes on from there"
    )
