"""Seeding: a block of code with random numbers of its own, and seeds derived from integers."""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import check_seed

# Pyro's handlers and torch's generators are global. Hold this lock to use them; otherwise two
# threads write into one trace.
GLOBAL_STATE_LOCK = threading.RLock()


@contextmanager
def seeded(seed: int, like: Tensor) -> Iterator[None]:
    """Seed the random numbers of this block, on the CPU and on the device of `like`.

    The random state is restored afterwards; other threads wait. Inside, no_grad replaces
    inference_mode, so that gradients can be switched on.
    """
    check_seed(seed)
    with ExitStack() as stack:
        stack.enter_context(GLOBAL_STATE_LOCK)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        devices = [] if like.is_cpu else [like.device]
        stack.enter_context(torch.random.fork_rng(devices, device_type=like.device.type))
        set_seed(seed, like)
        yield


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the random state afterwards: Python's, NumPy's and torch's, on every device in use.

    Other threads wait while the state is read or restored, and not in between.
    """
    with GLOBAL_STATE_LOCK:
        python, numpys, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        apples = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        with GLOBAL_STATE_LOCK:
            random.setstate(python)
            np.random.set_state(numpys)
            torch.set_rng_state(torchs)
            if gpus:
                torch.cuda.set_rng_state_all(gpus)
            if apples is not None:
                torch.mps.set_rng_state(apples)


def without_inference_mode(batch: Sequence[Tensor]) -> list[Tensor]:
    """Copy the tensors made under torch.inference_mode: gradients cannot pass through those."""
    return [tensor.clone() if tensor.is_inference() else tensor for tensor in batch]


def set_seed(seed: int, like: Tensor) -> None:
    """Seed the random numbers of the CPU and of the device of `like`.

    `torch.manual_seed` would seed every device, which takes a hundred times as long.
    """
    torch.default_generator.manual_seed(seed)
    if like.is_cuda:
        with torch.cuda.device(like.device):
            torch.cuda.manual_seed(seed)
    elif like.is_mps:
        torch.mps.manual_seed(seed)


def seed_everything(seed: int, like: Tensor) -> None:
    """Seed the random numbers of Python and NumPy, of the CPU and of the device of `like`."""
    random.seed(seed)
    np.random.seed(seed)
    set_seed(seed, like)


def derive_seed(*numbers: int) -> int:
    """Derive a torch seed from integers below 2^32.

    Always pass equally many: trailing zeros change nothing, so (1, 2) and (1, 2, 0) share a seed.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
