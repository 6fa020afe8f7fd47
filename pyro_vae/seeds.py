"""Random numbers: a seed for each block of work, and the caller's own left as they were."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import check_seed

# Pyro's handlers and torch's random numbers are of the whole process: who uses them holds this, or
# two threads would meet in one trace.
GLOBAL_STATE_LOCK = threading.RLock()


@contextmanager
def seeded(seed: int, like: Tensor) -> Iterator[None]:
    """Random numbers from `seed` in this block, on the CPU and on the device of `like`.

    Those drawn after it are what they would be without it. Other threads wait for its end; of
    torch.inference_mode no more is left in it than torch.no_grad, which can be undone within.
    """
    check_seed(seed)
    with ExitStack() as stack:
        stack.enter_context(GLOBAL_STATE_LOCK)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng([like.device] if like.is_cuda else []))
        set_seed(seed, like)
        yield


def without_inference_mode(rows: Sequence[Tensor]) -> list[Tensor]:
    """`rows`, copied where they were made under torch.inference_mode: gradients need others."""
    return [row.clone() if row.is_inference() else row for row in rows]


def set_seed(seed: int, like: Tensor) -> None:
    """Random numbers from `seed`, on the CPU and on the device of `like`.

    `torch.manual_seed` would set those of every device, and take a hundred times as long.
    """
    torch.default_generator.manual_seed(seed)
    if like.is_cuda:
        with torch.cuda.device(like.device):
            torch.cuda.manual_seed(seed)


def derive_seed(*numbers: int) -> int:
    """A seed for torch of its own for each sequence of as many whole numbers below 2^32."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
