"""A fingerprint of models, guides, settings and tensors: are they those of another run?"""

import hashlib
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pyro_vae.errors import describe


def fingerprint(*parts: object, weights: bool = True) -> str:
    """Return a digest that tells one set of models, guides and tensors from another.

    A module counts by its class, weights, and attributes without an underscore; a function by its
    name. With `weights` False, only the shapes of a module's weights count.
    """
    digest = hashlib.sha256()
    for piece in _pieces(parts, weights, ()):
        digest.update(f"{len(piece)} ".encode() + piece)  # so that 1 and 12 are not 11 and 2
    return digest.hexdigest()[:16]


def _pieces(part: object, weights: bool, holders: tuple[object, ...]) -> Iterator[bytes]:
    """Yield what counts in `part`, depth first. `holders` are the objects around it.

    `part` may be one of them, such as a module that its child names in an attribute.
    """
    for depth, holder in enumerate(holders):
        if holder is part:
            yield f"holder {depth}".encode()
            return
    if isinstance(part, Tensor):
        numbers = part.detach().cpu().contiguous().reshape(-1)
        yield describe(part).encode()
        yield numbers.view(torch.uint8).numpy().tobytes()  # NumPy has no bfloat16
    elif isinstance(part, np.ndarray):
        yield describe(part).encode()
        yield part.tobytes()
    else:
        label, contents = _opened(part, weights)
        yield label.encode()
        for item in contents:
            yield from _pieces(item, weights, (*holders, part))


def _opened(part: object, weights: bool) -> tuple[str, list[object]]:
    """Return a label of `part`, and the objects in it that count."""
    if isinstance(part, dict):
        return f"dict {len(part)}", [item for pair in part.items() for item in pair]
    if isinstance(part, list | tuple):
        return f"list {len(part)}", list(part)
    if isinstance(part, nn.Module):
        tensors = {**part._parameters, **part._buffers}
        if not weights:
            tensors = {name: describe(tensor) for name, tensor in tensors.items()}
        # settings, and other models or guides that are no part of this one
        attributes = {k: v for k, v in vars(part).items() if k[0] != "_" and k != "training"}
        return "module", [type(part), tensors, attributes, part._modules]
    if isinstance(part, partial):
        return "partial", [part.func, part.args, part.keywords]
    if hasattr(part, "__func__"):
        return "method", [part.__func__, part.__self__]
    if hasattr(part, "__qualname__"):  # a class or function
        return f"{part.__module__}.{part.__qualname__}", []
    if hasattr(part, "__dict__"):
        return "object", [type(part), vars(part)]
    return repr(part), []
