"""Question (c): 4 latent dimensions, 20, and PyTorch's example, compared on grounds that hold up.

No single number says which autoencoder is better. Each investigation asks one question, of several
trainings of each; its file says why. Its numbers are written as soon as it is finished.

    python -m experiments.question_c
"""

import numpy as np

from experiments.cli import announce_and_load, check_at_least, make_parser, run
from experiments.question_c import (
    SEED,
    cost,
    interpolation,
    maps,
    noise,
    overfitting,
    overview,
    pixels,
    probes,
    rate_distortion,
    samples,
    scores,
    units,
)
from experiments.question_c.autoencoders import CONTENDERS, load_all, score_all
from experiments.record import Results
from experiments.trained import trained_classifier
from pyro_vae.analysis.judges import class_probabilities
from pyro_vae.data.dataset import random_positions
from pyro_vae.errors import check_counts


def main() -> None:
    """Load or train every contender, then answer one question after the other."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=None)
    parser.add_number("--seeds", 3, "trainings of each autoencoder: seeds SEED, SEED + 1, ...", "S")
    parser.add_number("--images", 1000, "test images for the refined scores")
    args = parser.parse_args()
    check_counts(seeds=args.seeds)
    check_at_least("--images", args.images, 20)
    data = announce_and_load(
        args,
        f"question (c): three autoencoders, trainings of each: {args.seeds}. About 40 minutes on 2 "
        "cores, and 6 more for each training with the appendix's networks that is not there yet.",
        labels=True,
    )
    results = Results(args, data, "question_c")
    vaes = load_all(args, data)
    results.training = {key: [vae.config for vae in seeds] for key, seeds in vaes.items()}
    classifier = trained_classifier(args, data)
    chosen = random_positions(data.test_images, args.images, SEED)
    x, labels = data.test_images[chosen], data.test_labels[chosen].numpy()
    fifth = x[: max(10, args.images // 5)]
    trained = score_all(vaes, data, chosen, args.seed)

    results.add("contenders", {key: contender._asdict() for key, contender in CONTENDERS.items()})
    read = class_probabilities(classifier, data.test_images).argmax(1)
    accuracy = float((read == data.test_labels.numpy()).mean())
    results.add("classifier", {"test_accuracy": accuracy})
    results.add(
        "scores",
        scores.measure(trained, chosen, np.array(data.classes)[labels]),
        preferences=scores.preferences_figure(trained, x),
    )
    results.draw(log_p=scores.figure(results.metrics["scores"]))
    results.add("other_pixels", pixels.measure(trained, fifth))
    results.add("overfitting", overfitting.measure(trained, data, chosen))
    metrics = rate_distortion.measure(vaes, x, max(10, args.images // 10))
    results.add("rate_distortion", metrics, rate_distortion=rate_distortion.figure(metrics))
    use = units.measure(vaes, data, fifth, classifier)
    results.add("units", use, units=units.figure(vaes, x[:1], use))
    robustness = {"images": len(x), "noise": noise.measure(vaes, x, labels, classifier)}
    results.add("robustness", robustness)
    robustness["interpolation"] = interpolation.measure(vaes, x, labels, classifier)
    results.add("robustness", robustness)
    results.add("usefulness", probes.measure(vaes, data))
    results.add("cost", cost.measure(trained, data))
    count = min(10_000, 10 * args.images, len(data.test_images))
    quality, shown = samples.measure(vaes, data, classifier, count)
    results.add("samples", quality, samples=samples.figure(shown, quality, data.classes))
    results.draw(maps=maps.figure(vaes, data))
    print(overview.as_text(results.metrics))
    results.finish()
    print(
        f"means over {args.seeds} trainings of each (standard deviation); "
        f"figures and metrics.json in {results.folder}"
    )


if __name__ == "__main__":
    run(main)
