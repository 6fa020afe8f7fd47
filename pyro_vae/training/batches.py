"""The images of a training, in groups and batches.

A group holds the arguments of model and guide over its images: `(x,)`, or `(x, y)` with labels.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pyro_vae.data.conversion import Images, as_batch, check_batch
from pyro_vae.data.dataset import Dataset as DataParts
from pyro_vae.data.images import check_finite
from pyro_vae.errors import InputError, describe
from pyro_vae.programs import Program, labels_of
from pyro_vae.progress import Progress
from pyro_vae.seeds import derive_seed, seeded

Group = tuple[Tensor, ...]


def groups_of(
    source: Images | Sequence,
    name: str,
    model: Program,
    guide: Program,
    progress: Progress = None,
    transformed: bool = False,
) -> list[Group]:
    """Return the groups of `source`, the argument called `name`, as tensors, checked.

    It holds the images of one group, or is the group `(x, y)`, or a list of groups. Images that
    will be `transformed` may be anything.
    """
    if isinstance(source, Tensor) and source.dim() < 2 and not source.is_floating_point():
        raise InputError(
            f"{name}, {describe(source)}, looks like labels: give them with their images, "
            "train=(x, y)"
        )
    if _holds_images(source, model):
        source = (source,)
    first = source[0] if source else None
    several = isinstance(first, tuple) and not isinstance(first, DataParts)
    several = several or (isinstance(source, list) and isinstance(first, list))
    groups = []
    for i, group in enumerate(source if several else [source]):
        called = f"{name}[{i}]" if several and len(source) > 1 else name
        if not isinstance(group, list | tuple):
            raise InputError(f"{called} must be a group, (x,) or (x, y), not {describe(group)}")
        if not group:
            raise InputError(f"{called} must hold at least one image, as in {name}=(x,)")
        too_many = len(group) - 1 > labels_of(model).most
        if too_many and isinstance(source, list) and not several:
            raise InputError(
                f"{name}, a list, is taken as images and labels, and has more labels than the "
                f"model takes: leave these out, as in {name}=(x,), or give a list of images as "
                f"{name}=([...],)"
            )
        batch = as_batch(model, *group, name=called, transformed=transformed, progress=progress)
        check_batch(model, guide, *batch, name=called, seen=transformed)
        groups.append(tuple(batch))
    return groups


def _holds_images(source: Images | Sequence, model: Program) -> bool:
    """Return whether `source` holds images alone, and not groups or `[images, labels]`.

    A list does where that is plain: of PIL images; of pairs whose labels are single numbers; of
    images that each have the shape of a `Model`'s.
    """
    if isinstance(source, DataParts) or not isinstance(source, list | tuple):
        return True
    if isinstance(source, tuple) or not source:
        return False
    first = source[0]
    if isinstance(first, list | tuple):
        return len(first) == 2 and not isinstance(first[1], list) and np.ndim(first[1]) == 0
    if hasattr(first, "getbands"):
        return True
    shape = getattr(model, "image_shape", None) or ()
    shapes = [shape] + [shape[1:]] * (shape[:1] == (1,))  # a single channel may be left out
    return len(shape) > 1 and all(getattr(x, "shape", None) in shapes for x in source)


def epoch_batches(
    sizes: list[int], batch_size: int, shuffle: torch.Generator | None
) -> list[tuple[int, Tensor]]:
    """Return the batches of an epoch, each as its group's number and its rows in the group.

    Each group of `sizes` images is shuffled and cut, and the batches of all groups are mixed.
    With None for `shuffle`, everything keeps its order.
    """
    batches = []
    for group, size in enumerate(sizes):
        order = torch.arange(size, device="cpu")
        if shuffle is not None:
            order = torch.randperm(size, generator=shuffle, device=shuffle.device)
        batches += [(group, rows) for rows in order.split(batch_size)]
    if shuffle is not None and len(sizes) > 1:
        mixed = torch.randperm(len(batches), generator=shuffle, device=shuffle.device)
        batches = [batches[i] for i in mixed]
    return batches


def take(
    group: Group,
    rows: Tensor | slice,
    transform: Callable[[Tensor], Tensor] | None,
    seed: int,
) -> list[Tensor]:
    """Return these rows of a group, their images transformed with random numbers from `seed`."""
    batch = [tensor[rows] for tensor in group]
    if transform is None:
        return batch
    with seeded(seed, batch[0]):
        x = transform(batch[0])
    if not isinstance(x, Tensor) or x.shape[:1] != batch[0].shape[:1]:
        raise InputError(
            f"transform must return a tensor with a row for each of {len(batch[0])} images"
        )
    check_finite(x, "transform", " in what it returned for a batch", "check the transform")
    return [x, *batch[1:]]


def transform_seed(*step: int, rehearsal: bool = False) -> int:
    """Return the seed of the transform in a step `(seed, epoch, step)`, or in the rehearsal.

    It has a last number that is not 0, since the parts of a batch draw from `(*step, part)`.
    """
    return derive_seed(*step, 0, 2 if rehearsal else 1)
