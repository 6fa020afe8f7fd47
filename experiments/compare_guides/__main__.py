"""Guides side by side: what each buys, in one table, with the gaps that explain it.

python -m experiments.compare_guides --frozen-decoder --guides mean_field,full_rank
python -m experiments.compare_guides --frozen-decoder --guides mean_field,my_guide:MyGuide
python -m experiments.compare_guides --frozen-decoder --objective dreg --particles 16
"""

import argparse

from experiments.cli import (
    TRAINING,
    announce_and_load,
    check_at_least,
    make_parser,
    run,
    training_settings,
)
from experiments.compare_guides import SEED, gaps, posteriors
from experiments.compare_guides.candidates import BY_NAME, find_guides, frozen, joint
from experiments.compare_guides.training import train_all
from experiments.record import Results
from experiments.trained import checkpoint_there, own_checkpoint
from pyro_vae.analysis.comparison import as_text, pairs
from pyro_vae.analysis.plots import name_of_image
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.errors import InputError, check_counts
from pyro_vae.guides import GUIDES


def options() -> argparse.Namespace:
    """Parse and check the options of the script."""
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--guides",
        metavar="NAMES",
        help="names, or path.to.module:Name of your own, with commas between (default: "
        f"{', '.join(GUIDES)}; on a frozen generator auto_normal too)",
    )
    parser.add_argument(
        "--frozen-decoder",
        action="store_true",
        help="train the guides alone, on one trained generator, and not each with its own",
    )
    parser.add_argument(
        "--guide-epochs",
        type=int,
        metavar="N",
        help="epochs of each guide's training (default: 5 on a frozen generator, else 10); "
        "--epochs sets the training of the generator",
    )
    parser.add_number("--images", 1000, "test images that are scored, a tenth of them for the gaps")
    args = parser.parse_args()
    check_counts(latent_dim=args.latent_dim)
    if args.guides is None:
        args.guides = ",".join(BY_NAME if args.frozen_decoder else GUIDES)
    if args.guide_epochs is None:
        args.guide_epochs = 5 if args.frozen_decoder else 10
    else:
        args.given.append("guide_epochs")
    check_counts(guide_epochs=args.guide_epochs)
    check_at_least("--images", args.images, 20)
    if args.frozen_decoder:
        return args
    if "epochs" in args.given:
        raise InputError(
            "--epochs sets the training of the generator: use --guide-epochs, or add "
            "--frozen-decoder"
        )
    if args.checkpoint or args.train:
        raise InputError(
            f"{'--checkpoint' if args.checkpoint else '--train'} is of a generator that is trained "
            "before the guides: add --frozen-decoder"
        )
    return args


def check_epochs(args: argparse.Namespace, data: Dataset) -> None:
    """Raise InputError if `--epochs` alone is given and the generator is there already."""
    if "epochs" not in args.given or "guide_epochs" in args.given or args.train:
        return
    there = checkpoint_there(args, data, f"d{args.latent_dim}", args.checkpoint)
    if there:
        own = own_checkpoint(args, data, f"d{args.latent_dim}")
        train = "--train, with another --results," if own.exists() else "--train"
        mend = f"put {train} in place of --checkpoint" if args.checkpoint else f"add {train}"
        raise InputError(
            f"--epochs sets the training of the generator, and {there} is trained already: use "
            f"--guide-epochs, or {mend} to train a generator of your own"
        )


def of_the_generator(args: argparse.Namespace) -> argparse.Namespace:
    """Return the options without `--objective` and `--particles`, which are of the guides alone.

    A checkpoint's generator may have been trained by any; without a checkpoint it is by the ELBO.
    """
    own = {name: TRAINING[name] for name in ("objective", "particles")}
    given = [name for name in args.given if name not in own]
    return argparse.Namespace(**vars(args) | own | {"given": given})


def main() -> None:
    """Train the guides that are asked for, compare them, draw the figures and write the metrics."""
    args = options()
    builders = find_guides(args.guides)
    data = announce_and_load(
        args,
        f"guides, trained for {args.guide_epochs} epochs each and compared: {len(builders)}. "
        f"About {args.guide_epochs + 2} minutes a guide on 2 cores, six times "
        "that for a semi-amortised one, up to 40 more for the gaps of a spline flow in 20 "
        "dimensions, and 5 for the refined guide. --resume goes on where a run was stopped.",
    )
    check_epochs(args, data)
    args.guide_precision = training_settings(args)["precision"]
    mode = "frozen" if args.frozen_decoder else "joint"
    results = Results(args, data, f"compare_guides_{mode}_d{args.latent_dim}")
    chosen = random_positions(data.test_images, args.images, SEED)
    x = data.test_images[chosen].to(args.device)
    names = [name_of_image(data, label) for label in data.test_labels[chosen].tolist()]
    if args.frozen_decoder:
        field = frozen(of_the_generator(args), data, builders, x)
    else:
        field = joint(args, builders, x)
    results.training = field.config
    trainings = train_all(field, args, data, results.folder, x)

    gap_images = args.images // 10
    evaluations = gaps.evaluate_all(field, x, gap_images)
    rows = gaps.table_of(evaluations, trainings)
    for row in rows:
        row["calibration"] = gaps.calibration_of(field, row["guide"], x[: max(20, len(x) // 5)])
    generators = "one generator" if args.frozen_decoder else "generators of their own"
    title = f"What the ELBO misses (95% intervals): guides of {generators}, d = {args.latent_dim}"
    results.add("rows", {row["guide"]: row for row in rows}, guides=gaps.figure(rows, title))
    results.add("pairs", pairs(evaluations))
    if field.refined and args.latent_dim == 2:
        metrics, gap, spread = posteriors.against_quadrature(
            field.refined.model, evaluations, x[:gap_images]
        )
        results.draw(posteriors=posteriors.figure(field, x, names, gap, spread))
        for name, value in metrics.items():
            results.add(name, value)
    print(as_text(rows))
    results.finish()
    print(f"figures and metrics.json in {results.folder}")


if __name__ == "__main__":
    run(main)
