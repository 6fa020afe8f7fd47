"""Memory that is freed, and asked for again a moment later: kept in between.

By default glibc's allocator gives each activation of several MB back to the system when it is
freed. The system then hands out the same pages at the next step, each set to zero first. That is a
third of the time of a training step, and more of the time of scoring.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MB = 2**20
TRIM, MMAP = -1, -3  # glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD

_depth = [0]  # blocks of `memory_kept` that run, in all threads
_LOCK = threading.Lock()


@contextmanager
def memory_kept() -> Iterator[None]:
    """Let the allocator keep freed memory during the block, where it is glibc's.

    Afterwards that memory goes back to the system, but for what glibc itself keeps at the most. A
    function that works block by block is decorated with it, lest memory go back after each block.
    """
    _add(1)
    try:
        yield
    finally:
        _add(-1)


def keep_memory() -> None:
    """Let the allocator keep freed memory from now on, where it is glibc's."""
    _add(1)  # no block is the outermost any more


def _add(count: int) -> None:
    """Count the blocks that run; the first sets the thresholds, the last those of large blocks."""
    with _LOCK:
        before, _depth[0] = _depth[0], _depth[0] + count
        if before == 0:
            _set_thresholds(1024, 2047)
        if _depth[0] == 0:
            _set_thresholds(32, 64)  # what glibc's own come to as a program frees large blocks
            with suppress(AttributeError, TypeError, OSError):
                ctypes.CDLL(None).malloc_trim(0)


def _set_thresholds(mmap: int, trim: int) -> None:
    """Set from how many MB on a block is a mapping of its own, and free memory is given back."""
    with suppress(AttributeError, TypeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP, mmap * MB) or mallopt(MMAP, 32 * MB)  # the most that an older glibc takes
        mallopt(TRIM, trim * MB)
