"""Question (d): style and digit apart, X = f(Z, y).

The perfect sampling distribution, shown at d = 2; sets of digits in one style, from the prior and
from real images; what z and y each carry, measured; classification by Bayes' rule; what the label
is worth in nats; and failures made on purpose, which the measures must catch.

    python -m experiments.question_d
"""

import numpy as np
from matplotlib.figure import Figure

from experiments.cli import (
    announce_and_load,
    check_at_least,
    check_device,
    folder_name,
    make_parser,
    run,
)
from experiments.question_d import SEED
from experiments.question_d.classification import classify
from experiments.question_d.failures import failures
from experiments.question_d.label_worth import label_worth
from experiments.question_d.measures import measures
from experiments.question_d.styles import digit_samples, style_ways
from experiments.question_d.theory import theory
from experiments.question_d.transfer import style_sets, transfer
from experiments.question_d.units import active_units
from experiments.record import Results
from experiments.trained import Spec, load_or_train, trained_classifier
from pyro_vae.guides import AMORTISED

DIM, EPOCHS = 10, 40  # latent dimensions and epochs, unless asked otherwise


def main() -> None:
    """Train or load the conditional autoencoder, draw the figures of (d), write the metrics."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=DIM, epochs=EPOCHS)
    parser.add_argument(
        "--guide", choices=list(AMORTISED), default="mean_field", help="q(z | x, y)"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=1000,
        metavar="N",
        help="test images for the refined scores; generated images: ten times as many",
    )
    parser.add_argument(
        "--failure-epochs", type=int, default=5, metavar="E", help="epochs of the failures"
    )
    args = parser.parse_args()
    check_at_least("--images", args.images, 20)
    check_at_least("--failure-epochs", args.failure_epochs, 1)
    data = announce_and_load(
        args,
        "question (d): style and digit apart. About an hour on 2 cores, and 25 minutes for each "
        "of two autoencoders, with labels and without, that are not trained yet. --images 200 "
        "takes half of it.",
    )
    device = check_device(args.device)
    name = "question_d" if args.guide == "mean_field" else f"question_d_{args.guide}"
    results = Results(args, data, folder_name(args, name, DIM))
    own = "conditional" if args.latent_dim == DIM else f"conditional_d{args.latent_dim}"
    own += "" if args.guide == "mean_field" else f"_{args.guide}"
    spec = Spec(args.latent_dim, "per_label", 10, args.guide, "learned", "cosine")
    vae = load_or_train(args, data, spec, own, path=args.checkpoint)
    results.training = vae.config
    blind = spec._replace(architecture="appendix", num_classes=0, guide="mean_field")
    plain = load_or_train(args, data, blind, f"unconditional_d{args.latent_dim}")
    plane_spec = spec._replace(latent_dim=2, guide="mean_field", prior="standard")
    few = min(args.epochs, 5)  # a posterior to look at needs no more
    plane = load_or_train(args, data, plane_spec, "conditional_plane", epochs=few)
    classifier = trained_classifier(args, data)

    metrics: dict = {}

    def keep(**figures: Figure) -> None:
        """Write figures, and the metrics so far: a run that is stopped has not been for nothing."""
        results.draw(**figures)
        for metric_name, metric in metrics.items():
            results.add(metric_name, metric)

    shown, metrics["theory"] = theory(plane.to("cpu"), data)
    keep(theory=shown)
    count = 10 * args.images
    labels = data.test_labels.numpy()
    first = {digit: np.flatnonzero(labels == digit) for digit in range(10)}
    keep(**style_sets(vae, data, np.array([first[digit][3] for digit in (2, 5, 7, 8)])))
    pairs = [(int(first[digit][0]), int(first[digit][5])) for digit in (2, 3, 4, 7)]
    shown, metrics["units"] = active_units(vae, data)
    digits, metrics["samples_shown"] = digit_samples(vae, classifier)
    keep(digits=digits, ways=style_ways(vae, data, pairs), units=shown)
    metrics["measures"] = measures(vae, data, classifier, count)
    metrics["transfer"] = transfer(vae, data, args.images)
    shown, metrics["classification"], log_p = classify(
        vae, data, classifier, few=max(10, args.images // 10), doubtful=max(10, args.images // 2)
    )
    keep(**shown)
    chosen = np.random.default_rng(SEED).permutation(len(labels))[: args.images]
    shown, metrics["label_worth"] = label_worth(vae, plain, data, chosen, log_p)
    keep(label_worth=shown)
    shown, metrics["failures"] = failures(
        data,
        classifier,
        vae.config,
        args.failure_epochs,
        count // 5,
        device,
    )
    keep(failures=shown)
    generated = metrics["measures"]["generated"]["mean"]
    bayes = metrics["classification"]["with_refined"]["accuracy"]["mean"]
    print(
        f"f(z, y) is read as y for {generated:.1%}; Bayes' rule reads {bayes:.2%} of the test "
        f"images; figures and metrics.json in {results.folder}"
    )


if __name__ == "__main__":
    run(main)
