"""A fingerprint of models, guides, settings and tensors: are they those of another run?"""

import hashlib
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pyro_vae.errors import describe


def fingerprint(*parts: object, weights: bool = True) -> str:
    """Tells one set of models, guides and tensors from another: by classes, settings and weights.

    Of a module's weights only the shapes count where `weights` is False; of its attributes those
    without an underscore; of a function its name.
    """
    digest = hashlib.sha256()
    within: list[int] = []  # the objects that hold the one at hand: one of them may be in it again

    def put(content: bytes) -> None:
        # with its length, so that 1 and 12 are not 11 and 2
        digest.update(f"{len(content)} ".encode() + content)

    def add(part: object) -> None:
        if id(part) in within:
            put(f"holder {within.index(id(part))}".encode())
            return
        within.append(id(part))
        look(part)
        within.pop()

    def look(part: object) -> None:
        if isinstance(part, Tensor):
            put(describe(part).encode())
            numbers = part.detach().cpu().contiguous().reshape(-1)
            put(numbers.view(torch.uint8).numpy().tobytes())  # NumPy has no bfloat16
        elif isinstance(part, np.ndarray):
            put(describe(part).encode())
            put(part.tobytes())
        elif isinstance(part, dict):
            put(f"dict {len(part)}".encode())
            for key, value in part.items():
                put(str(key).encode())
                add(value)
        elif isinstance(part, list | tuple):
            put(f"list {len(part)}".encode())
            for value in part:
                add(value)
        elif isinstance(part, nn.Module):
            add(type(part))
            own = {**part._parameters, **part._buffers}
            add(own if weights else {name: describe(w) for name, w in own.items()})
            # a setting, or another model or guide that is no part of this one
            add({k: v for k, v in vars(part).items() if k[0] != "_" and k != "training"})
            add(part._modules)
        elif isinstance(part, partial):
            add([part.func, part.args, part.keywords])
        elif hasattr(part, "__func__"):  # a method
            add([part.__func__, part.__self__])
        elif hasattr(part, "__qualname__"):  # a class or a function
            put(f"{part.__module__}.{part.__qualname__}".encode())
        elif hasattr(part, "__dict__"):
            add(type(part))
            add(vars(part))
        else:
            put(repr(part).encode())

    add(parts)
    return digest.hexdigest()[:16]
