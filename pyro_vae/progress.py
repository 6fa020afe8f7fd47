"""Progress bars: after a few seconds where someone watches, and nothing in logs and pipes."""

import sys

from tqdm.auto import tqdm

from pyro_vae import parallel

# What a function that may take long accepts: None for a bar where someone watches, once it has
# taken some seconds; False for none; True, or a name, for one at once and everywhere.
Progress = bool | str | None

PATIENCE = 3  # seconds before a bar that nobody asked for


def progress_bar(progress: Progress, total: int | None, unit: str, name: str = "log p(x)") -> tqdm:
    """Return a bar over `total` units, called `name` where `progress` gives no other name."""
    asked = progress is not None
    return tqdm(
        total=total,
        desc=progress if isinstance(progress, str) else name,
        unit=unit,
        disable=not (progress is not False if asked else is_watched()),
        delay=0 if asked else PATIENCE,
    )


def part(progress: Progress, name: str) -> Progress:
    """Return `progress` for one part of the work, called `name` after the whole's own name."""
    if isinstance(progress, str):
        return f"{progress}, {name}"
    return name if progress is True else progress


def is_watched() -> bool:
    """Return whether standard error is a terminal or a notebook's, in the first process."""
    if parallel.rank() > 0:
        return False
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel") or bool(sys.stderr and sys.stderr.isatty())
