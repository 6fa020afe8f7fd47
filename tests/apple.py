"""A device that stands for Apple's mps on a machine without it, as far as a program can tell.

A tensor there says that it `is_mps`, and is a tensor on the CPU inside. As on mps there is no
float64, no eigenvalue, and no operation on tensors of two devices, but for single numbers. Its
speed, its rounding and the faults of its kernels are not imitated. The device is made for the whole
process: import this in a process of its own.
"""

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from pyro_vae.analysis import sampling
from pyro_vae.networks import precision

NAME = "apple"
ABSENT = ("_linalg_eigh", "linalg_eig", "_linalg_svd", "linalg_qr", "geqrf")  # from mps
BETWEEN_DEVICES = ("_to_copy", "copy_", "copy", "_local_scalar_dense")
log: list[str] = []  # the operations that ran on the device


class Apple(Tensor):
    """A tensor on the imitated device, around the CPU's tensor `inside`."""

    @staticmethod
    def __new__(cls, inside: Tensor) -> "Apple":
        if inside.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        outer = Tensor._make_wrapper_subclass(
            cls,
            inside.size(),
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device=torch.device(NAME, 0),
        )
        outer.inside = inside
        return outer

    def __repr__(self) -> str:
        return f"Apple({self.inside})"

    def __reduce_ex__(self, protocol: int) -> tuple:
        return self.inside.__reduce_ex__(protocol)  # in a file it is the CPU's

    def tolist(self) -> list:
        return self.inside.tolist()

    def numpy(self, **_: object) -> None:
        raise TypeError("can't convert mps:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _on_apple(function, args, kwargs or {})


def _on_apple(function: Callable, args: tuple, kwargs: dict) -> object:
    """Run an operation on the CPU's tensors inside; its results are on the device it names."""
    name = function._schema.name.removeprefix("aten::")
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    here = [t for t in tensors if isinstance(t, Apple)]
    to = kwargs.get("device") and torch.device(kwargs["device"]).type
    if here and name not in BETWEEN_DEVICES:
        others = [t for t in tensors if not isinstance(t, Apple) and t.dim() > 0]
        if others and not name.startswith(("index", "_index")):
            raise RuntimeError(f"{name}: Expected all tensors to be on the same device: mps:0, cpu")
        if name in ABSENT:
            raise NotImplementedError(f"The operator 'aten::{name}' is not implemented for MPS")
    on_apple = to == NAME or (to is None and bool(here))
    if name == "copy_":
        on_apple = isinstance(args[0], Apple)
    inner_args, inner_kwargs = tree_map_only(Apple, lambda t: t.inside, (args, kwargs))
    if to == NAME:
        inner_kwargs["device"] = torch.device("cpu")
    if name == "_to_copy" and not here:
        inner_kwargs.pop("device")
        result = function(*inner_args, **inner_kwargs).clone()
    else:
        result = function(*inner_args, **inner_kwargs)
    if not on_apple:
        return result
    log.append(name)
    given = {id(t.inside): t for t in here}  # what was changed in place stays what it was

    return tree_map_only(Tensor, lambda t: given[id(t)] if id(t) in given else Apple(t), result)


class _Factories(TorchDispatchMode):
    """Let operations that name the device, such as torch.zeros(..., device="mps"), make it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        named = device is not None and torch.device(device).type == NAME
        held = any(isinstance(t, Apple) for t in tree_flatten((args, kwargs))[0])
        return _on_apple(function, args, kwargs) if named or held else function(*args, **kwargs)


class _Named(TorchFunctionMode):
    """Let "mps" be the name of the imitated device."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def named(value: object) -> object:
            return torch.device(NAME, 0) if value in ("mps", torch.device("mps")) else value

        args = tuple(named(a) if isinstance(a, str | torch.device) else a for a in args)
        kwargs = {k: named(v) if k == "device" else v for k, v in (kwargs or {}).items()}
        return function(*args, **kwargs)


_generator = sampling._generator


def _random_state(*_: object) -> Tensor:
    return torch.get_rng_state()


def _set_random_state(state: Tensor, *_: object) -> None:
    torch.set_rng_state(state)


MODULE = types.SimpleNamespace(
    is_available=lambda: True,
    is_initialized=lambda: True,
    device_count=lambda: 1,
    current_device=lambda: 0,
    _is_in_bad_fork=lambda: False,
    manual_seed_all=lambda seed: torch.default_generator.manual_seed(seed),
    get_rng_state=_random_state,
    set_rng_state=_set_random_state,
    get_amp_supported_dtype=lambda: [torch.bfloat16],
)
_setup_privateuseone_for_python_backend(NAME, MODULE)


@contextmanager
def apple() -> Iterator[None]:
    """Imitate the device within the block; its random numbers are the CPU's."""
    with (
        _Named(),
        _Factories(),
        mock.patch.object(precision, "WITHOUT_FLOAT64", (NAME,)),
        mock.patch("torch.mps.manual_seed", MODULE.manual_seed_all),
        mock.patch.object(sampling, "_generator", lambda seed, *_: _generator(seed)),
        mock.patch.object(Tensor, "is_mps", property(lambda t: isinstance(t, Apple)), create=True),
    ):
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device) then passes here too
        try:
            yield
        finally:
            torch._C._set_only_lift_cpu_tensors(False)
