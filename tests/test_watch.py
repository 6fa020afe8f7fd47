"""A process that falls silent is noticed by those who wait for it, and by nobody else."""

import threading
import time

import pytest
from torch.distributed import HashStore

from pyro_vae import watch


@pytest.fixture
def lost(monkeypatch):
    """The processes that are taken for lost; looks are 10 ms apart, and five are missed at most."""
    found: list[int] = []
    monkeypatch.setattr(watch, "PERIOD", 0.01)
    monkeypatch.setattr(watch, "PATIENCE", 0.05)
    monkeypatch.setattr(watch, "_end", found.append)
    return found


def answering(store, rank, seconds):
    """Let a process answer for so many seconds."""

    def answers():
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            count += 1
            store.set(f"alive/{rank}", f"answer {count}")
            time.sleep(0.002)

    thread = threading.Thread(target=answers)
    thread.start()
    return thread


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_falls_silent_is_lost_and_not_before(lost, rank):
    store = HashStore()
    store.set(f"alive/{1 - rank}", "")
    leave = watch.watch(store, rank, 2)
    answering(store, 1 - rank, 0.5).join()
    # a thread may have been left waiting for some looks, not for half a second
    assert not lost
    time.sleep(0.5)
    leave()
    assert {*lost} == {1 - rank}


def test_nobody_is_missed_after_leaving(lost):
    store = HashStore()
    for leave in [watch.watch(store, rank, 3) for rank in range(3)]:
        leave()
    time.sleep(0.3)
    assert not lost


def test_only_a_process_that_waits_is_ended(monkeypatch, capsys):
    codes: list[int] = []
    monkeypatch.setattr(watch.os, "_exit", codes.append)
    watch._end(1)
    assert not codes
    with watch.waiting():
        watch._end(1)
    watch._end(1)
    assert codes == [1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: process 1 does not answer: ")


def test_the_others_look_after_the_first_alone(lost):
    store = HashStore()
    store.set("alive/0", "")
    leave = watch.watch(store, 1, 3)  # process 2 never says a word
    answering(store, 0, 0.3).join()
    leave()
    assert not lost


class Away(HashStore):
    """A store that `problem` keeps from answering."""

    problem = None

    def multi_get(self, keys):
        return self.problem() if self.problem else super().multi_get(keys)


def fails():
    raise RuntimeError("broken pipe")


@pytest.mark.parametrize("problem", [fails, lambda: time.sleep(0.5) or [b"late"]])
def test_a_store_that_hangs_or_fails_is_the_first_process_lost(lost, problem):
    store = Away()
    store.set("alive/0", "")
    leave = watch.watch(store, 1, 2)
    answering(store, 0, 0.2).join()
    assert not lost
    store.problem = problem
    time.sleep(0.2)
    leave()
    assert {*lost} == {0}


def test_who_is_busy_when_another_is_lost_ends_when_it_waits_for_it(lost, monkeypatch):
    ended = []
    monkeypatch.setattr(watch, "_end", lambda number: watch._waiting.is_set() and ended.append(1))
    store = HashStore()
    store.set("alive/1", "")
    leave = watch.watch(store, 0, 2)
    time.sleep(0.3)  # busy for longer than the patience
    assert not ended
    with watch.waiting():
        time.sleep(0.1)
    leave()
    assert ended
