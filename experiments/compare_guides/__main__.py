"""Guides side by side: what each buys, in one table, with the gaps that explain it.

python -m experiments.compare_guides --frozen-decoder --guides mean_field,full_rank
python -m experiments.compare_guides --frozen-decoder --guides mean_field,my_guide:MyGuide
"""

import copy

import numpy as np
import torch

from experiments.cli import (
    TRAINING,
    announce_and_load,
    check_at_least,
    check_device,
    make_parser,
    run,
    training_settings,
)
from experiments.compare_guides.candidates import find_guide, make_guide, warm_start
from experiments.compare_guides.gaps import gaps_figure
from experiments.compare_guides.posteriors import SEED, exact, four_posteriors, posteriors_figure
from experiments.compare_guides.training import train
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae.analysis.comparison import Evaluation, as_text, evaluate, pairs, table
from pyro_vae.errors import InputError, check_counts
from pyro_vae.guides import GUIDES
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.models import Model
from pyro_vae.networks.appendix import Decoder


def main() -> None:
    """Train the guides that are asked for, compare them, draw the figures and write the metrics."""
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--guides",
        default=",".join(GUIDES),
        help="names, or path.to.module:Name of your own, with commas between",
    )
    parser.add_argument(
        "--frozen-decoder",
        action="store_true",
        help="train the guides alone, on the checkpoint's generator, and not each with its own",
    )
    parser.add_argument(
        "--guide-epochs",
        type=int,
        help="epochs for each guide (5 on a frozen generator, else 10)",
    )
    parser.add_argument(
        "--images", type=int, default=1000, metavar="N", help="test images; gaps on a tenth of them"
    )
    args = parser.parse_args()
    check_counts(latent_dim=args.latent_dim)
    if args.guide_epochs is None:
        args.guide_epochs = 5 if args.frozen_decoder else 10
    check_counts(guide_epochs=args.guide_epochs)
    check_at_least("--images", args.images, 20)
    builders = [find_guide(spec.strip()) for spec in args.guides.split(",")]
    names = [name for name, _ in builders]
    if len({*names, "refined"}) <= len(names):
        raise InputError(f"--guides: the labels {names} must differ, and none be 'refined'")
    if not args.frozen_decoder and ("epochs" in args.given or args.checkpoint or args.train):
        raise InputError(
            "--epochs, --checkpoint and --train are for a generator that is there before the "
            "guides: add --frozen-decoder, or use --guide-epochs"
        )
    data = announce_and_load(
        args,
        f"guides: {len(builders)}, epochs of each: {args.guide_epochs}. "
        f"About {args.guide_epochs + 2} minutes a guide on 2 cores, six times "
        "that for a semi-amortised one, up to 40 more for the gaps of a spline flow in 20 "
        "dimensions, and 5 for the refined guide. --resume goes on where a run was stopped.",
    )
    device = check_device(args.device)
    settings = training_settings(args)
    args.guide_precision = settings["precision"]
    kind = "frozen" if args.frozen_decoder else "joint"
    results = Results(args, data, f"compare_guides_{kind}_d{args.latent_dim}")
    folder = results.folder
    if args.frozen_decoder:
        base = load_or_train(args, data, Spec(args.latent_dim), path=args.checkpoint)
        base_model, base_guide, config = base.model, base.guide, base.config
        settings = TRAINING | {key: config[key] for key in TRAINING if key in config}
    else:
        config = settings | {"epochs": args.guide_epochs}

    made = {}  # all of them first: a wrong one stops the run before any is trained
    some = data.test_images[:2].to(device)
    for name, builder in builders:
        torch.manual_seed(settings["seed"])
        if args.frozen_decoder:
            model = copy.deepcopy(base_model).requires_grad_(False)
        else:
            model = Model(Decoder(args.latent_dim)).to(device)
        made[name] = (model, make_guide(name, builder, model, args, some))
        if args.frozen_decoder:
            warm_start(made[name][1], base_guide.encoder)

    chosen = np.random.default_rng(SEED).permutation(len(data.test_images))[: args.images]
    x, labels = data.test_images[chosen].to(device), data.test_labels[chosen].numpy()
    options = {"gap_images": args.images // 10, "seed": SEED}
    found: dict[str, Evaluation] = {}
    trainings = {}
    common: Estimate | None = None  # log p(x) is the generator's: one estimate for all its guides
    if args.frozen_decoder:
        refined = Refined(base_model, base_guide)
        common = log_likelihood(
            base_model, refined, x, num_samples=1000, seed=SEED, progress="refined log p"
        )
    for name, (model, guide) in made.items():
        trainings[name] = train(model, guide, data, args, settings, name, folder)
        found[name] = evaluate(model, guide, x, log_p=common, progress=name, **options)
    if args.frozen_decoder:
        options["seed"] = SEED + 1  # other samples than those of `common`
        found["refined"] = evaluate(
            base_model, refined, x, log_p=common, progress="refined, as a guide", **options
        )
        trainings["refined"] = {"seconds": 0.0, "history": []}

    rows = table(found)
    for row in rows:
        row["seconds"]["train"] = trainings[row["guide"]]["seconds"]
        row["history"] = trainings[row["guide"]]["history"]
    figures = {
        "guides": gaps_figure(
            rows,
            f"{len(rows)} guides of "
            + ("one generator" if args.frozen_decoder else "generators of their own")
            + f", d = {args.latent_dim}, {len(x):,} test images",
        )
    }
    metrics: dict = {"rows": {row["guide"]: row for row in rows}, "pairs": pairs(found)}
    if args.latent_dim == 2 and args.frozen_decoder:
        some = slice(options["gap_images"])
        log_p, spread = exact(base_model, x[some])
        metrics["exact"] = mean_interval(log_p) | {"estimator": "quadrature"}
        metrics["exact_minus_refined"] = mean_interval(log_p - common.value[some])
        first = next(iter(found.values()))
        gap = log_p - first.estimate.elbo[some]
        shown, names = four_posteriors(gap, spread, labels)
        guides = {name: guide for name, (_, guide) in made.items()} | {"refined": refined}
        figures["posteriors"] = posteriors_figure(base_model, guides, x[shown], names)
    results.training = config
    results.draw(**figures)
    for name, found_metrics in metrics.items():
        results.add(name, found_metrics)
    print(as_text(rows))
    print(f"figures and metrics.json in {folder}")


if __name__ == "__main__":
    run(main)
