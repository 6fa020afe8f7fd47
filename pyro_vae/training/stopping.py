"""Stopping a training: signals, and the errors that end it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TrainingError(RuntimeError):
    """Training cannot go on. The message says why, and what is left on disk."""


class Interrupted(Exception):
    """Training was asked to stop, and has saved its state. The message says how to go on."""


def _stopped(path: Path | None) -> str:
    return f"stopped; saved to {path}: continue with --resume" if path else "stopped; nothing saved"


@contextmanager
def _stop_signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM set `stop`, so that a step is never cut in half.

    A second signal acts as usual, at once. Outside the main thread signals cannot be caught.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
