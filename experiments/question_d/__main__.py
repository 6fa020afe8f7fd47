"""Question (d): style and digit apart, X = f(Z, y).

The perfect sampling distribution, shown at d = 2; sets of digits in one style, from the prior and
from real images; what z and y each carry, measured; classification by Bayes' rule; what the label
is worth in nats; and other designs, trained as long, some of which must fail.

    python -m experiments.question_d
"""

import argparse

from experiments.cli import (
    announce_and_load,
    check_at_least,
    check_device,
    folder_name,
    make_parser,
    run,
)
from experiments.question_d import (
    DIM,
    TRAINING,
    classification,
    disentanglement,
    failures,
    label_worth,
    mistakes,
    styles,
    theory,
    transfer,
    units,
)
from experiments.record import Results
from experiments.trained import Spec, load_or_train, trained_classifier
from pyro_vae.data.dataset import Dataset
from pyro_vae.guides import AMORTISED
from pyro_vae.vae import Vae


def main() -> None:
    """Train or load the autoencoders; measure and draw one investigation after another."""
    args = parse_options()
    data = announce_and_load(
        args,
        "question (d): style and digit apart. About an hour on 2 cores, or half with --images 200, "
        "and a quarter of an hour for each training that is not there yet: of two autoencoders, "
        "with labels and without, and of the designs.",
        labels=True,
    )
    styles.check_images_of_each_class(data)
    device = check_device(args.device)
    name = "question_d" if args.guide == "mean_field" else f"question_d_{args.guide}"
    results = Results(args, data, folder_name(args, name, DIM))
    vae, plain, plane = autoencoders(args, data)
    results.training = vae.config
    classifier = trained_classifier(args, data)
    drawn = 10 * args.images

    metrics, *shown = theory.measure(plane, data)
    results.add("theory", metrics, theory=theory.figure(data, plane, *shown))

    metrics, *shown = styles.measure(vae, data, classifier)
    results.add("samples_shown", metrics, digits=styles.figure(data, *shown))
    sets = styles.sets_figure(vae, data, classifier)
    results.draw(styles=sets, ways=styles.ways_figure(vae, data))

    metrics, named = units.measure(vae, data)
    results.add("units", metrics, units=units.figure(vae, data, metrics, named))

    metrics = disentanglement.measure(vae, data, classifier, drawn)
    results.add("measures", metrics)
    generated = metrics["generated"]["mean"]

    metrics = transfer.measure(vae, data, args.images)
    results.add("transfer", metrics, transfer=transfer.figure(vae, data))

    few, doubtful = max(4, args.images // 10), max(10, args.images // 2)
    metrics, log_p = classification.measure(vae, data, classifier, few, doubtful)
    results.add(
        "classification",
        metrics,
        classification=classification.figure(metrics),
        mistakes=mistakes.figure(data, metrics["mistakes"]),
    )
    bayes = metrics["with_refined"]["accuracy"]["mean"]

    metrics, difference = label_worth.measure(vae, plain, data, log_p, args.images)
    worth = label_worth.figure(metrics, difference, data.noun)
    results.add("label_worth", metrics, label_worth=worth)

    metrics, shown = failures.measure(data, classifier, vae.config, args, results.folder, device)
    results.add("failures", metrics, failures=failures.figure(data, metrics, shown))
    results.finish()
    print(
        f"f(z, y) is read as y for {generated:.1%}; Bayes' rule reads {bayes:.2%} of the test "
        f"images; figures and metrics.json in {results.folder}"
    )


def parse_options() -> argparse.Namespace:
    """Return the options; raise InputError where one is out of range."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=DIM, **TRAINING)
    parser.add_argument(
        "--guide",
        choices=list(AMORTISED),
        default="mean_field",
        metavar="GUIDE",
        help=f"family of q(z | x, y): {', '.join(AMORTISED)} (default: %(default)s)",
    )
    parser.add_number(
        "--images",
        1000,
        "test images for the refined scores, a tenth of the images that are generated",
    )
    parser.add_number("--failure-epochs", TRAINING["epochs"], "epochs for each other design", "E")
    parser.add_number("--failure-seeds", 3, "trainings of each other design", "S")
    args = parser.parse_args()
    check_at_least("--images", args.images, 20)
    check_at_least("--failure-epochs", args.failure_epochs, 1)
    check_at_least("--failure-seeds", args.failure_seeds, 1)
    return args


def autoencoders(args: argparse.Namespace, data: Dataset) -> tuple[Vae, Vae, Vae]:
    """Return the autoencoder asked for, one of equal d without labels, and one of d = 2."""
    classes = len(data.classes)
    name = "conditional" if args.latent_dim == DIM else f"conditional_d{args.latent_dim}"
    name += "" if args.guide == "mean_field" else f"_{args.guide}"
    spec = Spec(args.latent_dim, "per_label", classes, args.guide, "learned")
    vae = load_or_train(args, data, spec, name, path=args.checkpoint)
    without_labels = Spec(args.latent_dim, prior="learned")
    plain = load_or_train(args, data, without_labels, f"unconditional_d{args.latent_dim}")
    of_the_plane = Spec(2, "per_label", classes)
    epochs = min(args.epochs, 5)  # a posterior to look at needs no more
    plane = load_or_train(args, data, of_the_plane, "conditional_plane", epochs=epochs)
    return vae, plain, plane.to("cpu")


if __name__ == "__main__":
    run(main)
