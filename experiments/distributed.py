"""Train an autoencoder and score the test images, by one process or by several.

The processes that torchrun starts share the parts of each training batch (--batch-parts says how
many) and the blocks of test images. The number of processes changes the weights only by rounding,
and does not change the log p(x) of any image at given weights. A process that dies ends the run.
With --resume the next run takes the training up after its last full epoch. It scores only the test
images that are not scored yet.

    torchrun --nproc-per-node 2 -m experiments.distributed --batch-parts 2 --results runs/two
"""

import contextlib
import shutil
import sys
import time

from experiments.cli import (
    announce_and_load,
    check_at_least,
    check_device,
    folder_name,
    make_parser,
    run,
)
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae import parallel
from pyro_vae.shards import sharded_log_likelihood

TO_ACCURACY = "score by the refined guide, to a standard error of 0.1 nats, not by --num-samples"


def main() -> None:
    """Score the images with every process of the job; the first prints the summary and seconds."""
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_number("--num-samples", 100, "samples of the guide for each image", "K")
    parser.add_number("--images", 10_000, "test images to score")
    parser.add_argument("--refined", action="store_true", help=TO_ACCURACY)
    args = parser.parse_args()
    check_at_least("--num-samples", args.num_samples, 1)
    check_at_least("--images", args.images, 1)
    how = "to 0.1 nats each" if args.refined else f"by {args.num_samples} samples each"
    device = check_device(args.device)
    parallel.join_group(args.device)
    with contextlib.redirect_stdout(sys.stdout if parallel.rank() == 0 else None):
        data = announce_and_load(
            args,
            f"log p(x) of {args.images:,} test images {how}, "
            f"processes: {parallel.world_size()}. About half a minute on 2 cores for 10,000 images "
            "by 100 samples, and 6 minutes where an autoencoder is trained.",
        )
        results = Results(args, data, folder_name(args, "distributed"))
        start = time.perf_counter()
        vae = load_or_train(args, data, Spec(args.latent_dim), path=args.checkpoint)
        results.training = vae.config
        trained = time.perf_counter()
        x = data.test_images[: args.images].to(device)
        estimate = sharded_log_likelihood(
            results.folder / "blocks",
            vae.model,
            vae.guide,
            x,
            num_samples=None if args.refined else args.num_samples,
            se=0.1 if args.refined else None,
            seed=0,
            progress="log p(x)" if parallel.rank() == 0 else None,
        )
        scored = time.perf_counter()
        rank, processes = parallel.rank(), parallel.world_size()
        parallel.leave_group()
        if rank > 0:
            return
        summary = estimate.summary()
        results.add("processes", processes)
        results.add("log_p", summary)
        results.add("images", {"log_p": estimate.value.tolist(), "se": estimate.se.tolist()})
        results.add("seconds", {"train_or_load": trained - start, "score": scored - trained})
        results.finish()
        shutil.rmtree(results.folder / "blocks")  # everything in them is in metrics.json now
        print(
            f"log p(x) = {summary['mean']:.2f} nats per image, {summary['verdict']}; "
            f"{scored - trained:.0f} s for {len(x)} images; metrics.json in {results.folder}"
        )


if __name__ == "__main__":
    run(main)
