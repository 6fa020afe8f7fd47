"""Memory that is freed, and asked for again a moment later: kept in between.

By default glibc's allocator gives each activation of several MB back to the system when it is
freed. The system then hands out the same pages at the next step, each set to zero first. That is a
third of the time of a training step, and more of the time of scoring.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MB = 2**20
TRIM, MMAP = -1, -3  # glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD

_depth = [0]  # blocks of `memory_kept` that run


@contextmanager
def memory_kept() -> Iterator[None]:
    """Let the allocator keep freed memory during the block, where it is glibc's.

    Afterwards that memory goes back to the system, but for what glibc itself keeps at the most.
    """
    _depth[0] += 1
    if _depth[0] == 1:
        _set_thresholds(1024, 2047)
    try:
        yield
    finally:
        _depth[0] -= 1
        if _depth[0] == 0:
            _set_thresholds(32, 64)  # what glibc's own come to as a program frees large blocks
            with suppress(AttributeError, TypeError, OSError):
                ctypes.CDLL(None).malloc_trim(0)


def keep_memory() -> None:
    """Let the allocator keep freed memory from now on, where it is glibc's."""
    _depth[0] += 1  # no block is the outermost any more
    _set_thresholds(1024, 2047)


def _set_thresholds(mmap: int, trim: int) -> None:
    """Set from how many MB on a block is a mapping of its own, and free memory is given back."""
    with suppress(AttributeError, TypeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP, mmap * MB)
        mallopt(TRIM, trim * MB)
