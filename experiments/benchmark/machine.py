"""How far is this package from what the machine can do?

A contender may be slow too. The limit is a product of large matrices, which does little but
arithmetic.
"""

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
from pyro_vae.networks.precision import resolve_precision
from pyro_vae.training.fit import fit


def measure(x: Tensor, state: State, device: str) -> dict:
    """Measure GFLOP/s of training and of log p(x), and of products of large matrices.

    The arithmetic counted is that of the networks' layers, however it is done.
    """
    metrics: dict = {"threads": torch.get_num_threads(), "matrix_product_gflops": {}}
    size = 2048 if device == "cpu" else 8192
    # bfloat16 only where it is multiplied natively: elsewhere a product takes half a minute
    for name in dict.fromkeys(["float32", resolve_precision("auto", device)]):
        a = torch.randn(size, size).to(device, getattr(torch, name))
        seconds = median_seconds(lambda a=a: a @ a, 9, device)
        metrics["matrix_product_gflops"][name] = 2 * size**3 / seconds / 1e9
    model, guide = ours(state, device=device)
    few, many = x[:100].to(device), x[:1000].to(device)

    def train(images: Tensor) -> None:
        fit(model, guide, (images,), epochs=1, progress=False)

    def apply_layers() -> None:
        """Encode one image and decode 100 latents."""
        guide.encoder(few[:1])
        model.decoder(torch.zeros(100, model.decoder.latent_dim, device=device))

    # a second step's, without the trial before the first
    step = counted_flops(lambda: train(x[:200].to(device))) - counted_flops(lambda: train(few))
    for name, flops, work, images in (
        ("training", step / len(few), lambda: train(many), len(many)),
        ("log_p_100", counted_flops(apply_layers), lambda: log_likelihood(model, guide, few), 100),
    ):
        metrics[name] = {
            "mflop_an_image": flops / 1e6,
            "gflops": images * flops / median_seconds(work, 5, device) / 1e9,
        }
    return metrics


def counted_flops(work: Callable[[], object]) -> int:
    """Return the floating-point operations of `work`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def median_seconds(work: Callable[[], object], rounds: int, device: str) -> float:
    """Return the median time of `rounds` calls of `work`, after one that is not counted."""
    work()
    finish(device)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        finish(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def as_text(metrics: dict) -> str:
    """Return the line for a terminal."""
    peak = metrics["matrix_product_gflops"]
    products = ", ".join(f"{gflops:.0f} GFLOP/s in {name}" for name, gflops in peak.items())
    return (
        f"matrix products: {products}; training: {metrics['training']['gflops']:.0f}, "
        f"log p(x): {metrics['log_p_100']['gflops']:.0f}"
    )
