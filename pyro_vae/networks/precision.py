"""What makes the networks fast: bfloat16, memory layouts, and layers computed another way.

A function that takes layers computes what they would give one after the other: the same sums, to
rounding, in another order.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_vae.errors import InputError, checked

WITHOUT_FLOAT64 = ("mps",)  # kinds of devices


@checked
def resolve_precision(precision: str, device: str = "cpu") -> str:
    """Resolve "auto" to "bfloat16" where the hardware multiplies it natively, else to "float32".

    Elsewhere bfloat16 is emulated, and slower. The other two names are returned as they are.
    """
    if precision == "auto":
        if device.startswith("mps"):
            native = False  # not known of any
        elif device.startswith("cuda"):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            # AVX512-BF16 (recent AMD and Intel) or AMX (Intel server); absent from older torch
            features = getattr(torch.cpu, "get_capabilities", dict)()
            native = features.get("avx512_bf16") or features.get("amx_bf16")
        return "bfloat16" if native else "float32"
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"precision must be 'auto', 'float32' or 'bfloat16', not {precision!r}")
    return precision


def autocast(precision: str, like: Tensor) -> AbstractContextManager:
    """Run the layers of this block in bfloat16, on the device of `like`, if `precision` says so."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=precision == "bfloat16")


def without_tf32(like: Tensor) -> AbstractContextManager:
    """Run GPU convolutions of this block in full float32, not TF32; the forward pass only.

    On a GPU torch rounds the inputs of convolutions to the 10 bits of TF32 unless told not to. A
    backward pass outside of the block is still rounded, as the gradients of training are. On a CPU,
    where `like` may lie, nothing changes.
    """
    if not like.is_cuda:
        return nullcontext()
    now = torch.backends.cudnn
    return now.flags(now.enabled, now.benchmark, now.benchmark_limit, now.deterministic, False)


def to_float64_device(tensor: Tensor) -> Tensor:
    """Return `tensor`, copied to the CPU where its device has no float64: Apple's mps.

    Fits and the densities of proposals are computed there, and `return_to` brings them back.
    """
    return tensor.cpu() if tensor.device.type in WITHOUT_FLOAT64 else tensor


def return_to(like: Tensor, result: Tensor) -> Tensor:
    """Return `result` on the device of `like`, in float32 where that has no float64."""
    if like.device.type in WITHOUT_FLOAT64 and result.dtype == torch.float64:
        result = result.float()
    return result.to(like.device)


def channels_last(x: Tensor) -> Tensor:
    """Copy `x`, `(B, C, H, W)`, into the memory layout in which the CPU convolves fastest.

    On mps it stays as it is: torch's convolutions have been slow or wrong there in this layout.

    Tensor.contiguous would return an `x` of one channel as it is, since both layouts agree there,
    and the convolution would go on in the slower one. The weights keep the usual layout: Pyro's
    parameter store copies weights of any other layout, and then trains the copy.
    """
    if x.is_mps:
        return x
    return torch.empty_like(x, memory_format=torch.channels_last).copy_(x)


def flat_linear(maps: Tensor, dense: nn.Linear) -> Tensor:
    """Flatten `maps`, `(B, C, H, W)`, and apply the dense layer: `(B, n)`.

    Columns of the weight beyond C H W, which belong to labels, are left out. Maps in the
    channels-last layout stay as they are; the weight is permuted to match. To permute the maps, and
    the gradient back, would take ten times as long.
    """
    channels, pixels = maps.shape[1], maps.shape[2] * maps.shape[3]
    weight = dense.weight[:, : channels * pixels].unflatten(1, (channels, pixels))
    weight = weight.transpose(1, 2).flatten(1)
    return functional.linear(maps.permute(0, 2, 3, 1).flatten(1), weight, dense.bias)


def last_layers(layers: nn.Sequential, planes: Tensor) -> Tensor:
    """Apply the decoder's last layers to `planes`, `(B, 4, 30, 30)`: logits `(B, 1, 28, 28)`.

    Without gradients they are computed in blocks: faster forwards, but slower backwards. Not so on
    mps, where torch has written outputs with gaps, as blocks are, wrongly.
    """
    if torch.is_grad_enabled() or planes.is_mps:
        return layers(channels_last(planes))
    return in_blocks(planes, *layers)


def in_blocks(
    planes: Tensor, convolution: nn.Conv2d, activation: nn.Module, mix: nn.Conv2d
) -> Tensor:
    """Apply these three layers to all four pixels of each block of 2 x 2 at once.

    A convolution from 4 to 4 channels leaves most of a vector unit idle. The pixels of a block see
    4 x 4 pixels of the planes. So one convolution of that size, in steps of 2, gives the four
    pixels as four times as many channels.
    """
    # the kernel of pixel (i, j) of a block lies i rows down and j columns right
    kernels = [
        functional.pad(convolution.weight, (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1)
    ]
    # never rounded: for so few channels bfloat16 is the slower
    with torch.autocast(planes.device.type, enabled=False):
        blocks = functional.conv2d(
            planes.to(mix.weight),
            torch.stack(kernels, 1).flatten(0, 1),
            convolution.bias.repeat_interleave(4),
            stride=2,
        )  # (B, 4 * 4, 14, 14)
        channels = activation(blocks).view(-1, 4, 4 * 14 * 14)
        # detached: for a weight that asks for a gradient matmul first copies all channels
        logits = torch.matmul(mix.weight.detach().flatten(), channels)
    logits = (logits + mix.bias).view(-1, 2, 2, 14, 14)
    return logits.permute(0, 3, 1, 4, 2).reshape(-1, 1, 28, 28)


def softplus(logits: Tensor) -> Tensor:
    """Return log(1 + e^l) of logits l of any shape.

    Without gradients it is computed as max(l, 0) - log sigmoid(|l|). In float32 this is off by 1e-7
    at most, where torch's own is right to a relative 1e-7. It avoids log1p, which takes several
    times as long on processors for which torch has no vectorised one.
    """
    if torch.is_grad_enabled():
        return functional.softplus(logits, threshold=40)  # beyond, l itself
    return logits.clamp(min=0) - logits.abs().sigmoid().log()
