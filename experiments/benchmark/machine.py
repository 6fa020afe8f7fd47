"""The distance to the machine."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmark.contenders import ours
from experiments.benchmark.turns import finish
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.networks.appendix import State
from pyro_vae.training.fit import fit


def median_seconds(work: Callable[[], object], rounds: int, device: str) -> float:
    """Of `rounds` calls of `work`, after one that is not counted."""
    work()
    finish(device)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        finish(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def distance(x: Tensor, state: State, device: str) -> dict:
    """GFLOP/s of a step and of a likelihood, beside those of a product of large matrices.

    The arithmetic counted is what the networks' layers ask for, in whichever way it is done.
    """
    found: dict = {"threads": torch.get_num_threads(), "matrix_product_gflops": {}}
    size = 2048 if device == "cpu" else 8192
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(size, size).to(device, dtype)
        seconds = median_seconds(lambda a=a: a @ a, 9, device)
        found["matrix_product_gflops"][name] = 2 * size**3 / seconds / 1e9
    model, guide = ours(state, device=device)
    some, more = x[:100].to(device), x[:1000].to(device)

    def train(images: Tensor) -> None:
        fit(model, guide, (images,), epochs=1, progress=False)

    def layers() -> None:  # of one image encoded, a hundred decoded
        guide.encoder(some[:1])
        model.decoder(torch.zeros(100, model.decoder.latent_dim, device=device))

    for name, once, share, work, images in (
        ("training", lambda: train(some), len(some), lambda: train(more), len(more)),
        ("log_p_100", layers, 1, lambda: log_likelihood(model, guide, some), len(some)),
    ):
        with FlopCounterMode(display=False) as counter:
            once()
        flops = counter.get_total_flops() / share  # an image
        found[name] = {
            "mflop_an_image": flops / 1e6,
            "gflops": images * flops / median_seconds(work, 5, device) / 1e9,
        }
    return found
