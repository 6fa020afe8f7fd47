"""Question (b): log p(x) of an image, how far to trust it, and what makes an image likely.

First, as asked, the 100-sample estimate of every test image, and the most and least likely images.
Then five questions beyond: whether 100 samples are enough, which features explain the score, what
changing an image does to it, whether likely means typical, and whether the ranking depends on the
likelihood of the pixels. Each has a file in this folder.

    python -m experiments.question_b
"""

from experiments.cli import announce_and_load, check_at_least, folder_name, make_parser, run
from experiments.question_b import (
    SEED,
    enough,
    explained,
    extremes,
    features,
    interventions,
    pixels,
    typical,
)
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.errors import InputError
from pyro_vae.vae import Vae

LEAST = 20  # test images: below it too few are held out to say what explains a score


def main() -> None:
    """Load or train the autoencoder; write each investigation as soon as it is finished."""
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_number("--images", 1000, "test images for everything after the 100-sample estimate")
    args = parser.parse_args()
    check_at_least("--images", args.images, LEAST)
    data = announce_and_load(
        args,
        "question (b): log p(x) of every test image, and what makes one likely. About 20 minutes "
        "on 2 cores, or 6 with --images 200, and 6 more where an autoencoder is trained.",
    )
    if len(data.test_images) < LEAST:
        raise InputError(
            f"{data.name} has {len(data.test_images)} test images, and question (b) needs {LEAST}: "
            "add some"
        )
    results = Results(args, data, folder_name(args, "question_b"))
    vae = load_or_train(args, data, Spec(args.latent_dim), path=args.checkpoint)
    results.training = vae.config
    investigate(vae, data, args.images, results)


def investigate(vae: Vae, data: Dataset, images: int, results: Results) -> None:
    """Ask each question in turn, of `images` test images where all of them would take too long."""
    amortised = vae.log_likelihood(
        data.test_images, num_samples=100, seed=SEED, progress="100 samples of the guide"
    )

    metrics = extremes.measure(vae, data, amortised, num_candidates=max(10, images // 10))
    results.add("guide_100", metrics, likely_unlikely=extremes.figure(data.test_images, metrics))
    if data.classes:
        by_class = extremes.classes_figure(data.test_images, metrics, data.noun)
        results.draw(by_digit=by_class)

    measured, median_ess = features.measure(vae, data)
    results.draw(features=features.figure(measured, amortised.value, data))
    metrics = explained.measure(measured, median_ess, amortised.value)
    results.add("explained", metrics, explained=explained.figure(metrics))

    # a random choice, because the halves of MNIST's test set differ
    chosen = random_positions(data.test_images, images, SEED)
    x, amortised_of_x = data.test_images[chosen], amortised.subset(chosen)
    metrics, refined = enough.measure(vae, x, amortised_of_x, images // 10)
    results.add("enough", metrics, enough=enough.figure(amortised_of_x, refined))

    metrics, strip = interventions.measure(vae, x[: images // 10])
    results.add("interventions", metrics, interventions=interventions.figure(strip, metrics))

    sets = typical.image_sets(vae, data, x[: max(2, images // 20)])
    metrics, scores = typical.measure(vae, sets, refined.value)
    results.add("typical", metrics, typical=typical.figure(sets, scores, refined.value))

    part = slice(0, max(12, images // 5))
    of_part = {name: value[chosen][part] for name, value in measured.items()}
    metrics, scores = pixels.measure(vae, x[part], refined.subset(part), of_part)
    results.add("pixels", metrics, pixels=pixels.figure(x[part], scores, metrics))

    results.finish()
    print(
        f"mean score by 100 samples {amortised.value.mean():.2f}, of {len(x)} images by the "
        f"refined guide {refined.value.mean():.2f} nats per image; figures and metrics.json in "
        f"{results.folder}"
    )


if __name__ == "__main__":
    run(main)
