"""Several processes on one task, started by torchrun: who does what, and adding up.

A process that torchrun did not start is the only one of its group. What is drawn never depends on
the number of processes: work is cut into parts, each with a seed of its own, and the processes
share the parts.
"""

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
from torch import Tensor, distributed

from pyro_vae.errors import InputError


def join_group(device: str = "cpu") -> None:
    """Join the group of processes that torchrun has started, if it has.

    Where the device is "cuda", each process takes a GPU of its own.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or distributed.is_initialized():
        return
    patience = timedelta(days=1)  # one may have to wait for another's longer share
    if device.startswith("cuda"):
        number = int(os.environ["LOCAL_RANK"])
        if device != "cuda" or number >= torch.cuda.device_count():
            raise InputError(
                f"--device {device}: several processes take a GPU each, and this machine has "
                f"{torch.cuda.device_count()}: use --device cuda and as many processes, or cpu"
            )
        torch.cuda.set_device(number)
        distributed.init_process_group("nccl", timeout=patience)
    else:
        distributed.init_process_group("gloo", timeout=patience)


def leave_group() -> None:
    """Leave the group at the end of the work, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """Which process of its group this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes the group has."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def parts_of_this_rank(parts: int) -> range:
    """Which of `parts` parts, by number, are this process's."""
    return range(rank(), parts, world_size())


def barrier() -> None:
    """Wait until every process of the group is here."""
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


def check_alike(**found: str) -> None:
    """Raise InputError, in every process, unless what each process found is the same in all."""
    if world_size() == 1:
        return
    everyone: list = [None] * world_size()
    distributed.all_gather_object(everyone, found)
    for name in found:
        if len({one[name] for one in everyone}) > 1:
            raise InputError(f"{name} must be the same in every process: set the same seed in all")
