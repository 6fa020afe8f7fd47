"""Question (a): train the appendix's autoencoder and look at what it has learnt.

Reconstructions, noisy images, random images and an interpolation, as asked; beyond that the noise
level at which the digit is lost, measured, and the posterior behind the interpolation.

    python -m experiments.question_a
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from experiments.cli import announce_and_load, check_at_least, folder_name, make_parser, run
from experiments.question_a import interpolation, noise, reconstructions, training_curve
from experiments.question_a.reader import Reader
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae.analysis.judges import knn_judge
from pyro_vae.data.dataset import Dataset, of_different_classes
from pyro_vae.errors import InputError
from pyro_vae.vae import Vae

# The training images that are shown: the coursework's, and four like them among the digits. Of
# other data they are the first four of different classes.
SHOWN = {"mnist": [59289, 28001, 35508, 43876], "digits": [16, 11, 45, 64]}


def main() -> None:
    """Load or train the autoencoder; write each part as soon as it is finished."""
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--show", type=int, nargs=4, metavar="I", help="indices of the training images to show"
    )
    parser.add_number(
        "--posterior-draws", 20, "draws of the posterior at each noise level; each costs a fit"
    )
    args = parser.parse_args()
    check_at_least("--posterior-draws", args.posterior_draws, 1)
    data = announce_and_load(
        args,
        "question (a): reconstructions, noise, random images, interpolation. About 1 minute on 2 "
        "cores, and 6 more where an autoencoder is trained.",
    )
    shown = args.show or SHOWN.get(data.name) or of_different_classes(data.train_labels, 4)
    check_shown(shown, data.train_images)
    results = Results(args, data, folder_name(args, "question_a"))
    vae = load_or_train(args, data, Spec(args.latent_dim), path=args.checkpoint)
    results.training = vae.config
    investigate(vae, data, shown, args.posterior_draws, results)


def investigate(
    vae: Vae, data: Dataset, shown: list[int], posterior_draws: int, results: Results
) -> None:
    """Draw what the question asks for, and measure what lies behind it."""
    labels = data.train_labels[shown].tolist()
    (x,) = vae.here(data.train_images[shown])
    names = [f"image {index}" for index in shown]
    results.add("images", dict(zip(map(str, shown), labels, strict=True)))
    judge = None
    if data.classes:
        judge, accuracy = knn_judge(data)
        results.add(
            "reader", {"kind": "5 nearest of 20,000 training images", "test_accuracy": accuracy}
        )
    else:
        print("images without labels: what they are read as is left out, and the noise curves too")
    reader = Reader(judge, data.classes)
    if vae.config.get("history"):
        results.draw(training=training_curve.figure(vae.config["history"]))
    results.draw(
        reconstructions=reconstructions.figure(vae, x, names),
        random=reconstructions.random_figure(vae),
    )

    noisy = noise.Shown(x[2:3], names[2], labels[2])
    drawn, readings = noise.figures(vae, noisy, reader)
    results.add(
        "noise_readings", readings, noise=drawn["guide"], noise_posterior=drawn["posterior"]
    )
    if judge:
        curves = noise.measure(vae, noisy, data, judge, posterior_draws)
        expecting = noise.measure_expecting(vae, noisy, judge, posterior_draws)
        results.add("specks_expected", expecting)
        figure = noise.curves_figure(curves, expecting, noisy.name, data.noun)
        results.add("noise_curves", curves, noise_curves=figure)
        results.add("half_are_lost_between", noise.all_lost_between(curves))

    ends, end_names = x[[1, 3]], [names[1], names[3]]
    figure, path = interpolation.figure(vae, ends, end_names, reader)
    results.add("interpolation", path, interpolation=figure)
    if vae.latent_dim > 1:  # else there is no plane
        figure, posterior = interpolation.endpoints_figure(vae, ends, end_names)
        results.add("endpoint_posteriors", posterior, endpoints=figure)
    else:
        results.add("endpoint_posteriors", None)

    elbo = vae.log_likelihood(data.test_images, num_samples=1, progress="test ELBO").elbo
    score = {
        "estimator": "ELBO, one sample an image, grey pixels",
        "mean": float(elbo.mean()),
        "se_over_images": float(elbo.std(ddof=1) / np.sqrt(len(elbo))),
        "num_images": len(elbo),
    }
    results.add("test_elbo", score)
    results.finish()
    print(
        f"test ELBO {elbo.mean():.2f} nats per image; figures and metrics.json in {results.folder}"
    )


def check_shown(shown: Sequence[int], images: Tensor) -> None:
    """Raise InputError unless `shown` are the indices of four different images."""
    for index in shown:
        if not 0 <= index < len(images):
            raise InputError(f"--show: no image {index}; choose from 0 to {len(images) - 1}")
    if len(set(shown)) < 4:
        raise InputError(f"--show: {shown} must be four different images")


if __name__ == "__main__":
    run(main)
