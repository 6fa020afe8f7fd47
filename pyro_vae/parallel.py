"""Several processes on one task, started by torchrun: each takes its parts, sums are exchanged.

A process that torchrun did not start is a group of one. Work is cut into parts, each with its own
seed, and the processes share the parts: so the random draws do not depend on how many there are.
"""

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
from torch import Tensor, distributed

from pyro_vae.errors import InputError


def join_group(device: str = "cpu") -> None:
    """Join the group of processes that torchrun started; do nothing without torchrun.

    With device "cuda" each process takes a GPU of its own.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or distributed.is_initialized():
        return
    if device.startswith("mps"):
        raise InputError('device mps: several processes take device="cpu", or a GPU each by "cuda"')
    patience = timedelta(days=1)  # a process may wait long for another's longer share
    if device.startswith("cuda"):
        number = int(os.environ["LOCAL_RANK"])
        if device != "cuda" or number >= torch.cuda.device_count():
            raise InputError(
                f"device {device}: several processes take a GPU each, and this machine has "
                f'{torch.cuda.device_count()}: use device="cuda" and as many processes, or '
                'device="cpu"'
            )
        torch.cuda.set_device(number)
        distributed.init_process_group("nccl", timeout=patience)
    else:
        distributed.init_process_group("gloo", timeout=patience)


def leave_group() -> None:
    """Leave the group at the end of the work; do nothing outside a group."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """Return this process's number in its group, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return how many processes the group has."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def parts_of_this_rank(parts: int) -> range:
    """Return which of `parts` parts, numbered from 0, are this process's."""
    return range(rank(), parts, world_size())


def barrier() -> None:
    """Wait until every process of the group has come here."""
    if world_size() > 1:
        distributed.barrier()


def all_reduce_sum(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over the processes, in one exchange."""
    tensors = list(tensors)
    if world_size() == 1 or not tensors:
        return
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(joined)
    for tensor, total in zip(tensors, joined.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def check_alike(**values: str) -> None:
    """Raise InputError, in every process, unless all have the same `values`."""
    if world_size() == 1:
        return
    gathered: list = [None] * world_size()
    distributed.all_gather_object(gathered, values)
    for name in values:
        if len({others[name] for others in gathered}) > 1:
            raise InputError(f"{name} must be the same in every process: set the same seed in all")
