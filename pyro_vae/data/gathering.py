"""Images, and their labels, gathered as tensors from arrays, lists, Datasets and DataLoaders."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from pyro_vae.data.dataset import Dataset as DataParts
from pyro_vae.errors import InputError, describe
from pyro_vae.progress import Progress, progress_bar
from pyro_vae.progress import part as part_of
from pyro_vae.seeds import random_state_kept


def columns(source: object, name: str, progress: Progress = None) -> list[Tensor]:
    """Return the images of a source, and the labels that it gives with them, as they come."""
    if isinstance(source, Tensor):
        return [source]
    if isinstance(source, np.ndarray):
        return [from_numpy(source, name)]
    if isinstance(source, DataParts):
        raise InputError(
            f"{name} is a whole data set, to train and to test on: give data.train_images (and "
            "data.train_labels), or those of test"
        )
    if isinstance(source, IterableDataset | DataLoader):
        loader = _in_order(source, name)
        join = torch.stack if _gives_single_items(loader) else torch.cat
        return _gathered(loader, len(loader), join, name, progress)
    if not isinstance(source, list | Dataset) or not hasattr(source, "__len__"):
        wanted = (
            "a tensor, an array, a list of images, a DataLoader or a torch Dataset with a length"
        )
        raise InputError(f"{name} must be {wanted}, not {describe(source)}")
    items = (source[i] for i in range(len(source)))
    return _gathered(items, len(source), torch.stack, name, progress)


def _in_order(loader: DataLoader | IterableDataset, name: str) -> DataLoader:
    """Return a loader of the same set, all of it and in its order, unless it has its own sampler.

    A shuffling one would give the images in another order each time.
    """
    data = loader.dataset if isinstance(loader, DataLoader) else loader
    if isinstance(data, IterableDataset):
        raise InputError(
            f"{name} is of an IterableDataset, which may have no end: gather its images yourself, "
            "as by list(itertools.islice(data, 1000))"
        )
    plain = isinstance(loader.sampler, SequentialSampler) or (
        isinstance(loader.sampler, RandomSampler)
        and not loader.sampler.replacement
        and loader.sampler.num_samples == len(data)
    )
    if not plain or (loader.batch_size is None and loader.batch_sampler is not None):
        return loader
    return DataLoader(
        data, loader.batch_size, num_workers=loader.num_workers, collate_fn=loader.collate_fn
    )


def _gives_single_items(loader: DataLoader) -> bool:
    """Return whether a loader gives one image at a time, without a dimension of the batch.

    With `batch_size=None` it does, unless its sampler gives the numbers of a batch at a time.
    """
    batched = loader.batch_size is not None or loader.batch_sampler is not None
    return not batched and not isinstance(loader.sampler, BatchSampler)


def _gathered(
    rows: Iterable, count: int, join: Callable, name: str, progress: Progress
) -> list[Tensor]:
    """Return the joined images, and labels, of rows such as `image` or `(image, label)`."""
    columns: list[list[Tensor]] = []
    what = f"gathering {name}"
    with random_state_kept(), progress_bar(part_of(progress, what), count, "it", what) as bar:
        for number, row in enumerate(rows):
            if isinstance(row, dict):
                raise InputError(
                    f"{name} gives dicts of {sorted(map(str, row))}: give pairs of image and "
                    "label, as [(row['image'], row['label']) for row in data]"
                )
            parts = row if isinstance(row, tuple | list) else [row]
            columns = columns or [[] for _ in parts]
            if len(parts) != len(columns) or not parts:
                raise InputError(
                    f"{name} must give as many things each time: {len(parts)} at number {number}, "
                    f"and {len(columns)} before"
                )
            for i, part in enumerate(parts):
                what = f"{'label' if i else 'image'} {number} of {name}"
                value = piece(part, what, label=i > 0)
                first = columns[i][0] if columns[i] else value
                skip = join is torch.cat  # batches differ in their first dimension
                if value.shape[skip:] != first.shape[skip:] or value.dtype != first.dtype:
                    raise InputError(
                        f"{what} is {describe(value)}, and the first is {describe(first)}: give "
                        "all of one shape and type"
                    )
                columns[i].append(value)
            bar.update()
    if not columns:
        raise InputError(f"{name} must hold at least one image")
    return [join(column) for column in columns]


def piece(part: object, what: str, label: bool) -> Tensor:
    """Return one image or label, or one batch of them, as a tensor."""
    if isinstance(part, Tensor):
        return part
    if isinstance(part, np.ndarray):
        return from_numpy(part, what)
    if hasattr(part, "getbands"):
        return _from_pil(part, what)
    if label and isinstance(part, int | float | np.generic):
        return torch.tensor(part, device="cpu")
    remedy = "a whole number" if label else "a tensor, an array or a PIL image"
    raise InputError(f"{what} is {describe(part)}: it must be {remedy}")


def _from_pil(image: object, what: str) -> Tensor:
    """Return a PIL image as bytes, `(C, H, W)`."""
    if image.mode not in ("1", "L", "RGB"):
        raise InputError(
            f"{what} is a PIL image of mode {image.mode!r}: convert it, by image.convert('L') for "
            "grey levels or by image.convert('RGB')"
        )
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.dim() == 2 else pixels.movedim(-1, 0).contiguous()


def from_numpy(array: np.ndarray, name: str) -> Tensor:
    """Return an array of numbers as a tensor, of which it shares the memory where it can."""
    if array.dtype.kind not in "biuf" or isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{name} must hold numbers, not {describe(array)}")
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "u" and size > 1:
        array = array.astype(np.int64)
    array = array.astype(np.float64 if size > 8 else array.dtype.newbyteorder("="), copy=False)
    usable = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if usable else array.copy())
