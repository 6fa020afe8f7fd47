"""log p(x) of many images by several processes, each finished block kept on disk.

The blocks are those of `log_likelihood`, each with its own seed. So the result is the
same for any number of processes, and a stopped run continues where it was. Whoever is free makes
the next block and sends it to the first process, which writes it.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pyro_vae import parallel
from pyro_vae.accuracy import block_to_accuracy, most_draws
from pyro_vae.data.conversion import Images, Labels, as_batch, check_batch
from pyro_vae.errors import InputError, check_seed, checked
from pyro_vae.guides.refined import refined_for
from pyro_vae.likelihood.estimate import Estimate, estimate
from pyro_vae.likelihood.importance import block_log_weights, image_blocks, scored_together
from pyro_vae.memory import memory_kept
from pyro_vae.programs import Program
from pyro_vae.progress import Progress, progress_bar
from pyro_vae.storage.files import atomic_write, check_folder
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.tensors import blaming, load_tensors, pack


@checked
@memory_kept()
def sharded_log_likelihood(
    folder: str | Path,
    model: Program,
    guide: Program,
    x: Images,
    *labels: Labels,
    num_samples: int | None = None,
    se: float | None = None,
    seed: int = 0,
    must_match: dict[str, object] | None = None,
    progress: Progress = None,
) -> Estimate:
    """Share `log_likelihood` among all processes of the group; each gets the whole result.

    Args:
        folder: where the blocks are kept, one file each, for the next run to find.
        must_match: further settings that must match the run that made the blocks. Images, labels,
            number of samples or standard error, seed, and the weights, settings and classes of
            model and guide always must. A function is known by its name only: give here what else
            it depends on.

    The first process alone reads and writes `folder`: the others may be on other machines. A
    process that dies ends the run. Finished blocks stay; the next run, of as many processes as it
    likes, makes the others.
    """
    x, *labels = as_batch(model, x, *labels, progress=progress)
    check_batch(model, guide, x, *labels)
    check_seed(seed)
    num_samples, blocks, score = _plan(model, guide, [x, *labels], num_samples, se, seed)
    settings = {
        "num_samples": num_samples,
        "seed": seed,
        "of": fingerprint(model, guide, x, *labels),
        **({} if se is None else {"se": se}),
        **(must_match or {}),
    }
    pack(settings)
    parallel.check_alike(images_labels_model_and_guide=settings["of"])
    folder = Path(folder)
    done: dict[int, Estimate] = {}  # by the number of the block; in the first process all

    def missing() -> list[int]:
        # read all finished blocks first: a block of another run is an error now, not after hours
        check_folder(folder)
        for number, block in enumerate(blocks):
            if (path := _path(folder, block)).exists():
                done[number] = _read(path, settings, block)
        return [number for number in range(len(blocks)) if number not in done]

    todo = parallel.by_first(missing)

    def make(i: int) -> bytes:
        block = blocks[todo[i]]
        arrays = score([tensor[block] for tensor in (x, *labels)], block.start).arrays()
        content = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return pack({"block": content, "settings": settings})

    with progress_bar(progress, len(todo), "block") as bar:
        for i, file in parallel.shared_work(make, len(todo)):
            block = blocks[todo[i]]
            done[todo[i]] = keep(_path(folder, block), file, settings, block)
            bar.update()
    return parallel.by_first(lambda: Estimate.concatenate([done[n] for n in range(len(blocks))]))


def _plan(
    model: Program,
    guide: Program,
    everything: list[Tensor],
    num_samples: int | None,
    se: float | None,
    seed: int,
) -> tuple[int, list[slice], Callable[[list[Tensor], int], Estimate]]:
    """Return the samples an image, the blocks of images, and what scores one from its start."""
    if se is None:
        count = 100 if num_samples is None else num_samples

        def by_samples(batch: list[Tensor], start: int) -> Estimate:
            return estimate(block_log_weights(model, guide, batch, start, count, seed))

        return count, image_blocks(len(everything[0]), count), by_samples
    most, refined = most_draws(se, num_samples), refined_for(model, guide)

    def to_accuracy(batch: list[Tensor], start: int) -> Estimate:
        return block_to_accuracy(refined, batch, start, se, most, seed)

    return most, scored_together(refined, everything, 1), to_accuracy


def keep(path: Path, file: bytes, settings: dict, block: slice) -> Estimate:
    """Write the file of one block of images at `path`, and return its estimates."""
    with atomic_write(path) as partial:
        partial.write_bytes(file)
    return _read(path, settings, block)


def _path(folder: Path, block: slice) -> Path:
    return folder / f"images_{block.start:07d}.pt"


def _read(path: Path, settings: dict, block: slice) -> Estimate:
    """Read the estimates of one block of images."""
    remedy = f"delete {path.parent}, whose blocks are then made again, or name another folder"
    content = load_tensors(path, "a block of log-likelihoods", {"block", "settings"}, remedy)
    with blaming(path, remedy):
        stored = content["settings"]
        other = [
            f"{name}={stored.get(name, 'unset')}, not {settings.get(name, 'unset')}"
            if name != "of"
            else "other images, labels, model or guide"
            for name in sorted(stored.keys() | settings.keys())
            if stored.get(name, "unset") != settings.get(name, "unset")
        ]
        if other:
            raise InputError(f"{path} is of another run, with {'; '.join(other)}: {remedy}")
        arrays = {name: tensor.numpy() for name, tensor in content["block"].items()}
        result = Estimate(**{"num_samples": settings["num_samples"]} | arrays)
        if {array.shape for array in arrays.values()} != {(block.stop - block.start,)}:
            raise ValueError
    return result
