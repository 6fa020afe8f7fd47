"""How long would ten million images take on many machines?

Each machine scores blocks of images by itself and sends the estimates to the first process, which
writes them. So the time falls with the number of machines until the first process does nothing but
receive and write. Both rates are measured here, on one machine: images a second by 1,000 samples,
and milliseconds to join a block of 100 images that another process has sent.

    python -m experiments.many_machines
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from experiments.benchmark.scaling import by_torchrun
from experiments.cli import announce_and_load, check_at_least, folder_name, make_parser, run
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae import parallel
from pyro_vae.data.dataset import random_positions
from pyro_vae.likelihood.estimate import exact
from pyro_vae.likelihood.importance import IMAGES as BLOCK
from pyro_vae.shards import keep
from pyro_vae.storage.tensors import load_tensors, pack, save_tensors

IMAGES = 10_000_000
MACHINES = (1, 10, 100)
SEED = 32


def hours(images_a_second: float, milliseconds_a_block: float) -> dict[str, float]:
    """Return how long IMAGES take by the number of machines, from the rates of one."""
    joining = IMAGES / BLOCK * milliseconds_a_block / 1000
    scoring = {machines: IMAGES / images_a_second / machines for machines in MACHINES}
    return {str(n): max(seconds, joining) / 3600 for n, seconds in scoring.items()}


def milliseconds_to_join(blocks: int) -> float:
    """Return the time to receive and write a block of another process, of torchrun's two."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"from experiments import many_machines as m; m.join_blocks({folder!r}, {blocks})"
        by_torchrun(2, 1, "--no-python", sys.executable, "-c", program)
        seconds = load_tensors(Path(folder, "seconds.pt"), "a time", {"seconds"})["seconds"]
    return 1000 * seconds / blocks


def join_blocks(folder: str, blocks: int) -> None:
    """Send empty blocks from the second process to the first, which writes them and the seconds."""
    parallel.join_group()
    arrays = exact(np.zeros(BLOCK)).arrays()
    settings = {"num_samples": 1, "seed": 0, "of": "0" * 64}
    content = {name: torch.from_numpy(array) for name, array in arrays.items()}
    file = pack({"block": content, "settings": settings})
    parallel.barrier()
    start = time.perf_counter()
    for number, block in parallel.shared_work(lambda number: file, blocks):
        keep(Path(folder, f"{number}.pt"), block, settings, slice(0, BLOCK))
    if parallel.rank() == 0:
        save_tensors(Path(folder, "seconds.pt"), {"seconds": time.perf_counter() - start})
    parallel.leave_group()


def options() -> argparse.Namespace:
    """Parse and check the options of the script."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=20)
    parser.add_number("--num-samples", 1000, "samples of the guide for each image", "K")
    parser.add_number("--images", 200, "test images whose scoring is timed")
    parser.add_number("--blocks", 2000, "blocks whose joining is timed")
    args = parser.parse_args()
    check_at_least("--num-samples", args.num_samples, 2)
    check_at_least("--images", args.images, 1)
    check_at_least("--blocks", args.blocks, 1)
    return args


def main() -> None:
    """Time both, and say how long ten million images would take."""
    args = options()
    data = announce_and_load(
        args,
        f"hours that {IMAGES:,} images by {args.num_samples:,} samples each would take on many "
        "machines, from the rates of this one. A minute. Leave the machine to it.",
    )
    results = Results(args, data, folder_name(args, "many_machines", 20))
    vae = load_or_train(args, data, Spec(args.latent_dim), path=args.checkpoint)
    results.training = vae.config
    x = data.test_images[random_positions(data.test_images, args.images, SEED)].to(vae.device)
    seconds = []
    for images in (x[:1], x, x, x):  # the first call of all takes longer
        start = time.perf_counter()
        vae.log_likelihood(images, num_samples=args.num_samples, progress=False)
        seconds.append(time.perf_counter() - start)
    rate, joining = len(x) / float(np.median(seconds[1:])), milliseconds_to_join(args.blocks)
    results.add("images_a_second", rate)
    results.add("milliseconds_a_block", joining)
    results.add("hours", hours(rate, joining))
    results.finish()
    print(f"{rate:.1f} images a second; {joining:.2f} ms to join a block of {BLOCK}")
    for machines, each in results.metrics["hours"].items():
        print(f"{machines:>6} machines: {each:,.2f} hours for {IMAGES:,} images")


if __name__ == "__main__":
    run(main)
