"""Question (c): 4 latent dimensions, 20, and PyTorch's example, compared on grounds that hold up.

Log-likelihood by a proposal that can be trusted beside the bounds, rate and distortion, what each
dimension draws, overfitting, samples as an independent classifier sees them, noise, interpolation,
what the latents know of the labels, cost; each over several training seeds.

    python -m experiments.question_c
"""

import time

import numpy as np
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from tqdm import tqdm

from experiments.cli import TRAINING, announce_and_load, check_at_least, make_parser, run
from experiments.question_c.autoencoders import CONTENDERS, SEED, Vae, Vaes, check_alike, refined
from experiments.question_c.cost import cost
from experiments.question_c.maps import maps_figure
from experiments.question_c.noise import robustness
from experiments.question_c.overfitting import overfitting
from experiments.question_c.overview import as_text, overview_figure
from experiments.question_c.pixels import other_pixels
from experiments.question_c.probes import usefulness
from experiments.question_c.rate_distortion import rate_distortion
from experiments.question_c.samples import samples, samples_figure
from experiments.question_c.scores import preferences_figure, preferred, scores
from experiments.question_c.units import unit_images, units, units_figure
from experiments.record import Results
from experiments.trained import Spec, load_or_train, trained_classifier
from pyro_vae.analysis.judges import class_probabilities
from pyro_vae.analysis.sampling import mean_images, posterior_moments
from pyro_vae.errors import check_counts, check_seed
from pyro_vae.likelihood.importance import log_likelihood


def main() -> None:
    """Train or load every contender, measure each ground, draw the figures, write the metrics."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=None)
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        metavar="S",
        help="trainings of each contender: seeds SEED, SEED + 1, ...",
    )
    parser.add_argument(
        "--images", type=int, default=1000, metavar="N", help="test images for the refined scores"
    )
    args = parser.parse_args()
    check_counts(seeds=args.seeds)
    check_at_least("--images", args.images, 20)
    data = announce_and_load(
        args,
        f"question (c): three autoencoders, training seeds of each: {args.seeds}. About 40 "
        "minutes on 2 cores once they are trained; the two of the appendix's make take 6 minutes "
        "each to train.",
    )
    results = Results(args, data, "question_c")
    base = args.seed
    check_seed(base + args.seeds - 1)
    vaes: Vaes = {key: [] for key in CONTENDERS}
    for seed in range(base, base + args.seeds):
        for key, contender in CONTENDERS.items():
            name = key if seed == TRAINING["seed"] else f"{key}_seed{seed}"
            spec = Spec(contender.latent_dim, contender.architecture)
            trained = load_or_train(args, data, spec, name, seed=seed)
            vaes[key].append(Vae(trained.model, trained.guide, trained.config))
            check_alike(vaes)  # before hours go into the next
    classifier = trained_classifier(args, data)

    chosen = np.random.default_rng(SEED).permutation(len(data.test_images))[: args.images]
    x, labels = data.test_images[chosen], data.test_labels[chosen].numpy()
    seconds: dict[str, dict[str, float]] = {}
    for key, seeds in vaes.items():
        for i, vae in enumerate(seeds):
            start = time.perf_counter()
            bounds = log_likelihood(
                vae.model,
                vae.guide,
                vae.here(data.test_images),
                seed=SEED,
                progress=f"{key}, seed {base + i}: 100 samples of the guide",
            )
            between = time.perf_counter()
            log_p = refined(vae, x, f"{key}, seed {base + i}: refined log p")
            if i == 0:
                seconds[key] = {
                    "seconds_for_1000_log_p_by_100": (between - start)
                    / len(data.test_images)
                    * 1000,
                    "seconds_for_1000_log_p_refined": (time.perf_counter() - between)
                    / len(x)
                    * 1000,
                }
            seeds[i] = vae._replace(bounds=bounds, refined=log_p)

    own = class_probabilities(classifier, data.test_images).argmax(1)
    metrics: dict = {
        "contenders": {key: contender._asdict() for key, contender in CONTENDERS.items()},
        "classifier": {"test_accuracy": float((own == data.test_labels.numpy()).mean())},
        "scores": scores(vaes, chosen, labels),
        "other_pixels": other_pixels(vaes, x[: max(10, args.images // 5)]),
        "overfitting": overfitting(vaes, data, chosen),
        "rate_distortion": rate_distortion(vaes, x, max(10, args.images // 10)),
        "units": units(vaes, data, x[: max(10, args.images // 5)], classifier),
        "robustness": robustness(vaes, x, labels, classifier),
        "usefulness": usefulness(vaes, data),
        "cost": cost(vaes, data, seconds),
    }
    metrics["samples"], shown = samples(
        vaes, data, classifier, count=min(10_000, 10 * args.images, len(data.test_images))
    )

    first = {key: seeds[0] for key, seeds in vaes.items()}
    images, difference = preferred(vaes, "d20", "d4", 10)
    rebuilt = {
        CONTENDERS[key].label: decode(
            first[key].model, posterior_moments(first[key].guide, x[images])[0]
        )
        for key in ("d4", "d20")
    }
    mapped = slice(min(3000, len(data.test_images)))
    maps = {
        CONTENDERS[key].label: TSNE(random_state=SEED).fit_transform(
            posterior_moments(vae.guide, data.test_images[mapped])[0].numpy()
        )
        for key, vae in tqdm(first.items(), desc="maps")
    }
    drawn = {
        key: unit_images(first[key], x[:1], metrics["units"][key]["order_of_first_seed"])
        for key in ("d4", "d20")
    }
    labels_of = {key: contender.label for key, contender in CONTENDERS.items()}
    figures: dict[str, Figure] = {
        "overview": overview_figure(metrics, labels_of),
        "preferences": preferences_figure(x[images], rebuilt, difference[images]),
        "units": units_figure(drawn, metrics["units"], labels_of),
        "samples": samples_figure(shown, metrics["samples"], labels_of),
        "maps": maps_figure(maps, data.test_labels[mapped].numpy()),
    }
    results.draw(**figures)
    results.training = {key: [vae.config for vae in seeds] for key, seeds in vaes.items()}
    for name, found in metrics.items():
        results.add(name, found)
    print(as_text(metrics))
    print(
        f"means over {args.seeds} trainings of each (standard deviation); "
        f"figures and metrics.json in {results.folder}"
    )


if __name__ == "__main__":
    run(main)
