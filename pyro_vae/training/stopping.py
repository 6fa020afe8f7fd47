"""How a training ends early: by a signal, by its callback, and in all processes together."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pyro_vae import parallel


class TrainingError(RuntimeError):
    """Training cannot go on. The message says why, and what is left on disk.

    >>> from pyro_vae import TrainingError
    >>> issubclass(TrainingError, Exception)  # catch it around `fit`
    True
    """


class Interrupted(Exception):
    """Training was asked to stop, and has saved its state. The message says how to go on.

    >>> from pyro_vae import Interrupted
    >>> issubclass(Interrupted, BaseException)  # catch it around `fit`
    True
    """


def interrupted(path: Path | None) -> Interrupted:
    """Return the exception for a training whose state is kept at `path`, or nowhere."""
    kept = f"saved to {path}: continue with resume=True" if path else "nothing saved"
    return Interrupted(f"stopped; {kept}")


class StopRequest:
    """Whether this process was asked to stop, and whether any process of its group was."""

    def __init__(self):
        self.asked = threading.Event()  # this process
        self.agreed = False  # any process, at the last exchange: all stop together

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM ask to stop, so that no step is cut in half.

        A second signal acts as usual, at once. Outside the main thread signals cannot be caught.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def handle(number: int, frame: object) -> None:
            self.asked.set()
            signal.signal(number, before[number])

        for number in before:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def any_process(flag: bool, device: torch.device) -> bool:
    """Return whether `flag` is true in any process. Every process must call it, or others wait."""
    flags = torch.full((1,), float(flag), dtype=torch.float32, device=device)
    parallel.all_reduce_sum([flags])
    return bool(flags)
