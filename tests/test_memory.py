"""Memory that is kept between the pieces of the work, and given back afterwards."""

import platform
import resource
import subprocess
import sys

import pytest

from tests.commands import ROOT

# 40 rounds of activations, such as a decoder's; prints the page faults and what is left resident
WORK = """
import contextlib, resource, sys, torch
from pyro_vae import memory
torch.set_num_threads(1)
if sys.argv[1] == "for good":
    memory.keep_memory()
block = memory.memory_kept() if sys.argv[1] == "block" else contextlib.nullcontext()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 2**20
def work():
    for _ in range(40):
        maps = [torch.ones(30 * 2**18) for _ in range(4)]  # MB, more than glibc's own limit
        del maps
small = resident()
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
with block:
    with memory.memory_kept() if sys.argv[1] == "block" else contextlib.nullcontext():
        pass  # an inner block gives nothing back
    work()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    during = resident()
print(faults, during - small, resident() - small)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's"
)
def test_freed_memory_is_kept_during_a_block_and_given_back():
    found = {}
    for way in ("block", "for good"):
        run = [sys.executable, "-c", WORK, way]
        out = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        found[way] = [int(number) for number in out.split()]
    pages = 120 * 2**20 // resource.getpagesize()  # of the activations of one round
    for way, (faults, _, _) in found.items():
        assert faults < 4 * pages, (way, faults)  # and not 40 times
    faults, during, after = found["block"]
    assert during >= 100, during  # MB
    assert after < 10, after
