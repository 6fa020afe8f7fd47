"""What makes the networks fast: precision, memory layout."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional

from pyro_vae.errors import InputError, checked


@checked
def resolve_precision(precision: str, device: str = "cpu") -> str:
    """ "float32" and "bfloat16" as they are; "auto": bfloat16 where it is multiplied natively.

    Without such units bfloat16 is emulated and slower, so that "auto" is then float32.
    """
    if precision == "auto":
        if device.startswith("cuda"):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            # AVX512-BF16 (recent AMD and Intel) or AMX (Intel server); absent from older torch
            features = getattr(torch.cpu, "get_capabilities", dict)()
            native = features.get("avx512_bf16") or features.get("amx_bf16")
        return "bfloat16" if native else "float32"
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"precision must be 'auto', 'float32' or 'bfloat16', not {precision!r}")
    return precision


def without_tf32(like: Tensor) -> AbstractContextManager:
    """Where convolutions of float32 tensors such as `like` keep all their digits.

    On a GPU torch rounds their inputs to the 10 bits of TF32 unless it is told not to. A backward
    pass outside of this block is rounded: the gradients of training are.
    """
    if not like.is_cuda:
        return nullcontext()
    now = torch.backends.cudnn
    return now.flags(now.enabled, now.benchmark, now.benchmark_limit, now.deterministic, False)


def channels_last(x: Tensor) -> Tensor:
    """`x`, shape `(B, C, H, W)`, in the memory layout in which the CPU convolves fastest.

    The values are the same. Tensor.contiguous would return an `x` of one channel as it is, since
    both layouts then agree, and the convolution would go on in the slower one. The weights keep the
    usual layout: Pyro's parameter store copies those of any other, and trains the copy.
    """
    return torch.empty_like(x, memory_format=torch.channels_last).copy_(x)


def softplus(logits: Tensor) -> Tensor:
    """log(1 + e^l) of logits l of any shape.

    Where no gradient is asked for it is max(l, 0) - log sigmoid(|l|): in float32 off by 1e-7 at
    most, where torch's own is right to a relative 1e-7, and without its log1p, which costs several
    times as much on processors for which torch has no vectorised one.
    """
    if torch.is_grad_enabled():
        return functional.softplus(logits, threshold=40)  # beyond, l itself
    return logits.clamp(min=0) - logits.abs().sigmoid().log()
