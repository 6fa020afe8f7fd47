"""Images and labels as people have them, made into the tensors that programs take.

Float tensors stay as they are, and so do tensors of whole numbers but uint8, which may be counts.
What changes numbers or shapes is said once in a `ConversionWarning`.
"""

from collections.abc import Iterable
from typing import Annotated

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pyro_vae.data.dataset import Dataset as DataParts
from pyro_vae.data.gathering import columns, from_numpy, piece
from pyro_vae.data.images import check_whole
from pyro_vae.errors import InputError, check_rows, checked, describe, warn_caller
from pyro_vae.programs import Program, labels_of, modules_of
from pyro_vae.progress import Progress

Images = Annotated[
    # `columns` says what to give of a `DataParts`
    Tensor | np.ndarray | list | Dataset | DataLoader | DataParts,
    "images (a tensor, an array, a list of images, a torch Dataset or a DataLoader)",
]
Labels = Annotated[Tensor | np.ndarray | list, "a tensor, an array or a list"]


class ConversionWarning(UserWarning):
    """What was done to images so that programs can take them, once for each kind of images.

    Silence it by `warnings.simplefilter("ignore", ConversionWarning)`.

    >>> import warnings
    >>> from pyro_vae import ConversionWarning
    >>> warnings.simplefilter("ignore", ConversionWarning)
    """


@checked
def as_images(source: Images) -> Tensor:
    """Return images as a tensor `(B, ...)`. All that takes images calls this; so can you.

    | source | what becomes of it |
    | --- | --- |
    | float tensor | returned as it is |
    | uint8 tensor or array | grey levels from 0 to 255, divided by 255 |
    | uint8 without a number above 1, or bool | 0 and 1 |
    | other array | a tensor of its type |
    | list of such images | stacked |
    | list of PIL images | as by torchvision's ToTensor: `(B, 1, H, W)`, or `(B, 3, H, W)` for RGB |
    | torch Dataset | its images, in order; of a pair (image, label) the first |
    | DataLoader | its Dataset's images, in order; those of its own sampler, if it has one |

    Their shape stays. A Dataset's transform is applied once.

    >>> import numpy as np
    >>> from pyro_vae import as_images
    >>> pairs = [(np.full((1, 28, 28), 0.2), label) for label in (3, 5)]
    >>> as_images(pairs).shape
    torch.Size([2, 1, 28, 28])
    """
    notes: dict[str, str] = {}
    images, *_ = columns(source, "source")
    images = _numbers(images, "source", notes)
    _say(notes)
    return images


def as_batch(
    model: Program,
    x: Images,
    *labels: Labels,
    name: str = "x",
    transformed: bool = False,
    progress: Progress = None,
) -> list[Tensor]:
    """Return images and labels as tensors that `model` takes; `name` is the argument's.

    - `as_images` makes the images. An array's have the type and device of the model's weights.
    - Those of a `Model` get the shape that its decoder makes, where the meaning is plain: a channel
      is added, or moved to the front; rows of pixels become an image.
    - Labels that the source gives are used where the model takes labels, and none are given.
    - Whole numbers as labels become int64.

    A tensor that will be `transformed` stays as it is.
    """
    notes: dict[str, str] = {}
    images, *own = columns(x, name, progress)
    tensor = isinstance(x, Tensor)
    if not tensor or not (transformed or images.is_floating_point()):
        images = _numbers(images, name, notes, next(iter(_weights(model)), None), tensor)
    if not (tensor and transformed):
        images = _shaped(images, name, notes, model)
    if own and not labels:
        if labels_of(model).given:
            labels = tuple(own)
        else:
            notes["labels"] = f"the labels of {name} are left out: the model takes none"
    _say(notes)
    rows = [as_labels(y, images) for y in labels]
    if not tensor:  # images that went to the weights take their labels along
        rows = [y.to(images.device) for y in rows]
    check_rows(images, *rows, first=name)
    return [images, *rows]


def check_batch(
    model: Program, guide: Program | None, *batch: Tensor, name: str = "x", seen: bool = False
) -> None:
    """Raise InputError unless both programs take so many labels, and the model these images.

    With `seen`, pixels are masked, and looked at later.
    """
    for who, program in (("model", model), ("guide", guide)):
        taken = labels_of(program)
        count = len(batch) - 1
        if taken.least <= count <= taken.most:
            continue
        wanted = ", ".join(taken.names)
        more = f", {wanted}" if wanted else ","
        call = f", {name}=(x{more})" if name.startswith(("train", "test")) else ""
        if count < taken.least:
            raise InputError(f"the {who} takes labels {wanted}: give them after the images{call}")
        takes = f"labels {wanted} alone" if wanted else "no labels"
        raise InputError(f"the {who} takes {takes}: leave the others out{call}")
    if not seen:
        check_whole(model, batch[0], name)


def _weights(program: Program) -> Iterable[Tensor]:
    """Yield the weights of a program that are floats."""
    for module in modules_of(program):
        yield from (w for w in module.parameters(recurse=False) if w.is_floating_point())


def _say(notes: dict[str, str]) -> None:
    """Warn of those kinds of conversions that were not yet spoken of."""
    new = {kind: note for kind, note in notes.items() if kind not in _SAID}
    if new:
        warn_caller("; ".join(new.values()), ConversionWarning)
        _SAID.update(new)


_SAID: set[str] = set()  # the kinds that were spoken of


def _numbers(
    images: Tensor,
    name: str,
    notes: dict[str, str],
    weight: Tensor | None = None,
    as_given: bool = True,
) -> Tensor:
    """Return images as floats, where their numbers are grey levels; else as they are.

    Those that were not a tensor (`as_given` False) get the type and device of the weights.
    """
    what = f"{name}, {describe(images)}"
    like = torch.empty(0) if weight is None else weight
    if not as_given:
        images = images.to(like.device)
    if images.dtype == torch.uint8:
        if images.numel() == 0 or images.max() > 1:
            most = int(images.max()) if images.numel() else 255
            dark = f"; the largest is {most}" if most < 128 else ""
            notes[f"uint8{dark}"] = (
                f"{what}: taken as grey levels from 0 to 255, divided by 255{dark}"
            )
            return images.to(like.dtype) / 255
        notes["binary"] = f"{what}: without a number above 1, taken as black and white, 0 and 1"
        return images.to(like.dtype)
    if images.dtype == torch.bool:
        notes["bool"] = f"{what}: taken as 0 and 1"
        return images.to(like.dtype)
    if not as_given and weight is not None and images.is_floating_point():
        if images.dtype != weight.dtype:
            notes["type"] = f"{what}: made {describe(weight[:0]).split()[0]}, as the weights are"
        return images.to(weight.dtype)
    return images


def _shaped(images: Tensor, name: str, notes: dict[str, str], model: Program) -> Tensor:
    """Return images in the shape that a `Model` makes, where it is plain how they are meant."""
    shape = getattr(model, "image_shape", None)
    given = images.shape[1:]
    if shape is None or len(shape) != 3 or given == shape:
        return images
    channels, height, width = shape
    flat = ((height, width), (height * width,)) if channels == 1 else ()
    if given == (height, width, channels):
        meant = images.movedim(-1, 1).contiguous()
    elif given in flat or images.shape in (shape, *flat):  # several images, or one
        meant = images.reshape(-1, *shape)
    else:
        raise InputError(
            f"{name} must have shape (B, {channels}, {height}, {width}), the model's images, not "
            f"{describe(images)}"
        )
    what = f"{name}, {describe(images)}"
    notes[f"shape {given} for {shape}"] = f"{what}: taken as {tuple(meant.shape)}"
    return meant


def as_labels(labels: Labels, images: Tensor) -> Tensor:
    """Return labels as a tensor where the images are: whole numbers as int64."""
    if isinstance(labels, list):
        pieces = [piece(y, f"label {i}", label=True) for i, y in enumerate(labels)]
        if len({piece.shape for piece in pieces}) > 1:
            raise InputError("labels must all have one shape, and the list has several")
        labels = torch.stack(pieces) if pieces else torch.empty(0, dtype=torch.int64)
        labels = labels.to(images.device)
    elif isinstance(labels, np.ndarray):
        labels = from_numpy(labels, "y").to(images.device)
        if labels.is_floating_point() and images.is_floating_point():
            labels = labels.to(images.dtype)
    if not isinstance(labels, Tensor):
        raise InputError(f"labels must be a tensor, an array or a list, not {describe(labels)}")
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    return labels.long() if whole else labels
