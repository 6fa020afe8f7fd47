"""log p(x) of many images by several processes, each finished block kept on disk.

The blocks are those of `pyro_vae.importance.log_likelihood`, each with a seed of its own: the
result is the same for any number of processes, and a run that was stopped goes on where it was.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pyro_vae import parallel
from pyro_vae.errors import InputError, check_rows, check_seed, checked
from pyro_vae.likelihood.estimate import Estimate, estimate
from pyro_vae.likelihood.importance import block_log_weights, image_blocks
from pyro_vae.likelihood.traces import Program
from pyro_vae.storage.files import check_folder
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.tensors import blaming, load_tensors, pack, save_tensors


@checked
def sharded_log_likelihood(
    folder: str | Path,
    model: Program,
    guide: Program,
    x: Tensor,
    *labels: Tensor,
    num_samples: int = 100,
    seed: int = 0,
    must_match: dict[str, object] | None = None,
    progress: str | None = None,
) -> Estimate:
    """`log_likelihood` by all processes of the group, every one of which gets the whole result.

    Args:
        folder: where the blocks are kept, one file each, and found again by the next run.
        must_match: what must be the same as in the run that made them, beside the images, labels,
            number of samples, seed, and the weights, settings and classes of model and guide. Of a
            function only the name counts: say here what else tells it from another.

    A process that dies ends the run; the blocks that are finished stay, and only the others are
    made when it is started again.
    """
    check_rows(x, *labels)
    check_seed(seed)
    blocks = image_blocks(len(x), num_samples)
    folder = Path(folder)
    check_folder(folder)
    settings = {
        "num_samples": num_samples,
        "seed": seed,
        "of": fingerprint(model, guide, x, *labels),
        **(must_match or {}),
    }
    pack(settings)
    paths = {folder / f"images_{block.start:07d}.pt": block for block in blocks}
    # all that are there at once: one of another run is said now, not when its turn comes
    known = {path: _read(path, settings, b) for path, b in paths.items() if path.exists()}
    parallel.barrier()  # all have looked, and none has made a block yet
    mine = parallel.parts_of_this_rank(len(paths))
    todo = [path for i, path in enumerate(paths) if i in mine and path not in known]
    for path in tqdm(todo, desc=progress, unit="block", disable=progress is None):
        rows = [row[paths[path]] for row in (x, *labels)]
        log_w = block_log_weights(model, guide, rows, paths[path].start, num_samples, seed)
        arrays = estimate(log_w)._asdict()
        arrays.pop("num_samples")
        content = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
        save_tensors(path, {"block": content, "settings": settings})
    parallel.barrier()
    found = [known.get(path) or _read(path, settings, block) for path, block in paths.items()]
    parallel.barrier()  # before any process goes on, and may delete them
    return Estimate(
        **{name: np.concatenate([block[name] for block in found]) for name in FIELDS},
        num_samples=num_samples,
    )


FIELDS = [name for name in Estimate._fields if name != "num_samples"]


def _read(path: Path, settings: dict, block: slice) -> dict[str, np.ndarray]:
    """The arrays of an estimate of one block of images, by name."""
    remedy = f"delete {path.parent}, whose blocks are then made again, or name another folder"
    content = load_tensors(path, "a block of log-likelihoods", {"block", "settings"}, remedy)
    if content["settings"] != settings:
        raise InputError(
            f"{path} is of another run ({content['settings']}, not {settings}): {remedy}"
        )
    with blaming(path, remedy):
        found = {name: content["block"][name].numpy() for name in FIELDS}
        if {array.shape for array in found.values()} != {(block.stop - block.start,)}:
            raise ValueError
    return found
