"""Several processes on one task, started by torchrun: each takes its parts, results are joined.

A process that torchrun did not start is a group of one. Work is cut into parts, each with its own
seed, and the processes share the parts: so the random draws do not depend on how many there are.
The processes may be on several machines that have no disk in common: the first one alone reads and
writes files, and tells the others.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar
from uuid import uuid4

import torch
from torch import Tensor, distributed

from pyro_vae import watch
from pyro_vae.errors import InputError, LostProcess

Result = TypeVar("Result")

PATIENCE = timedelta(days=1)  # a process may wait long for another's longer share
MEETING = timedelta(minutes=10)  # but not for one that does not start
_watches: list[Callable[[], None]] = []  # of this process: none, or one to be left


def join_group(device: str = "cpu") -> None:
    """Join the group of processes that torchrun started; do nothing without torchrun.

    With device "cuda" each process takes a GPU of its own.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or distributed.is_initialized():
        return
    if device.startswith("mps"):
        raise InputError('device mps: several processes take device="cpu", or a GPU each by "cuda"')
    backend = "gloo"
    if device.startswith("cuda"):
        gpu, backend = int(os.environ["LOCAL_RANK"]), "nccl"
        if device != "cuda" or gpu >= torch.cuda.device_count():
            raise InputError(
                f"device {device}: several processes take a GPU each, and this machine has "
                f'{torch.cuda.device_count()}: use device="cuda" and as many processes, or '
                'device="cpu"'
            )
        torch.cuda.set_device(gpu)
    number, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    options = {"store": _met(number, size), "rank": number, "world_size": size}
    distributed.init_process_group(backend, timeout=PATIENCE, **options)
    _watches.append(watch.watch(_store("watch"), rank(), world_size()))
    barrier()  # until all are watched


def _met(number: int, size: int) -> distributed.Store:
    """Wait for all processes, and return the store by which they find one another.

    Its keys are new where torchrun has started them again: gloo would look for those before. Raises
    LostProcess where one does not come, since it has ended by an error.
    """
    first = number == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = distributed.TCPStore(*_place(), is_master=first, timeout=MEETING, multi_tenant=True)
        here = [f"here/{attempt}/{each}" for each in range(size)]
        store.set(here[number], "")
        store.wait(here, MEETING)
    except RuntimeError as error:
        raise LostProcess(
            f"not all processes have come within {MEETING.seconds // 60} minutes: one has ended "
            "by an error, on its machine, or cannot be reached"
        ) from error
    store.set_timeout(PATIENCE)
    return distributed.PrefixStore(f"attempt/{attempt}", store)


def _place() -> tuple[str, int]:
    """Return where the store of the group is: host and port."""
    return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])


def _store(name: str) -> distributed.Store:
    """Return a connection of its own to the store of the group, which torchrun keeps.

    The same in every process, and with keys of this call alone: torchrun may start the processes
    again with the store of those before.
    """
    name = f"{name}/{by_first(lambda: uuid4().hex)}"
    with _unless_lost():
        store = distributed.TCPStore(*_place(), is_master=False, timeout=PATIENCE)
    return distributed.PrefixStore(name, store)


def leave_group() -> None:
    """Leave the group at the end of the work; do nothing outside a group."""
    barrier()  # until nobody needs the others
    while _watches:
        _watches.pop()()
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
        with _unless_lost():
            distributed.barrier()


def all_reduce_sum(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over the processes, in one exchange."""
    tensors = list(tensors)
    if world_size() == 1 or not tensors:
        return
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    with _unless_lost():
        distributed.all_reduce(joined)
    for tensor, total in zip(tensors, joined.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def take_first(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by that of the first process; processors may round differently."""
    if world_size() > 1:
        with _unless_lost():
            for tensor in tensors:
                distributed.broadcast(tensor, 0)


def check_alike(**values: str) -> None:
    """Raise InputError, in every process, unless all have the same `values`."""
    if world_size() == 1:
        return
    gathered: list = [None] * world_size()
    with _unless_lost():
        distributed.all_gather_object(gathered, values)
    for name in values:
        if len({others[name] for others in gathered}) > 1:
            raise InputError(
                f"{name} must be the same in every process: give all the same data set, options "
                "and seed"
            )


def by_first(action: Callable[[], Result]) -> Result:
    """Let the first process alone do `action`, and return its result in every process.

    For what depends on a disk, which the others need not share. An InputError is raised in all.
    """
    if world_size() == 1:
        return action()
    answer: list = [None, None]
    if rank() == 0:
        try:
            answer[0] = action()
        except InputError as error:
            answer[1] = str(error)
    with _unless_lost():
        distributed.broadcast_object_list(answer)
    if answer[1] is not None:
        raise InputError(answer[1])
    return answer[0]


def shared_work(make: Callable[[int], bytes], total: int) -> Iterator[tuple[int, bytes]]:
    """Let whoever is free make the next of `total` files; the first process yields all of them.

    It yields `(number, make(number))` as they are finished, in any order, and may write them at
    once; no process waits for another before the end. The others yield nothing.
    """
    if world_size() == 1:
        yield from ((number, make(number)) for number in range(total))
        return
    store = _store("work")
    if rank() > 0:
        while (number := _taken(store)) < total:
            _send(store, number.to_bytes(8) + make(number))
    else:
        own = arrived = 0
        while own + arrived < total:
            number = _taken(store)
            if number < total:
                own += 1
                yield number, make(number)
            # all that have come by now, or, with none left to make, all that are to come
            while arrived < (_sent(store) if number < total else total - own):
                yield _received(store, arrived)
                arrived += 1
    barrier()


def _taken(store: distributed.Store) -> int:
    """Take the next part, from 0."""
    with _unless_lost():
        return store.add("taken", 1) - 1


def _send(store: distributed.Store, part: bytes) -> None:
    with _unless_lost():
        store.set(f"part/{store.add('sent', 1) - 1}", part)


def _sent(store: distributed.Store) -> int:
    with _unless_lost():
        return store.add("sent", 0)


def _received(store: distributed.Store, place: int) -> tuple[int, bytes]:
    """Wait for what was sent as the `place`-th, from 0; return its number and the file."""
    with _unless_lost():
        part = store.get(f"part/{place}")
        store.delete_key(f"part/{place}")
    return int.from_bytes(part[:8]), part[8:]


@contextmanager
def _unless_lost() -> Iterator[None]:
    """Wait for others: a connection that breaks is LostProcess, and one that hangs is noticed."""
    try:
        with watch.waiting():
            yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
        raise LostProcess(f"{watch.lost_message('another process')} ({why})") from error
