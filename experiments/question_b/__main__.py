"""Question (b): log p(x) of an image, how far to trust it, and what makes an image likely.

The 100-sample estimate of every test image, as asked, and the most and least likely; beyond that
whether 100 samples are enough, which features explain the score, what changing an image does to it,
what lies outside the data, and what another likelihood of the pixels makes of it.

    python -m experiments.question_b
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
from experiments.question_b.enough import enough
from experiments.question_b.explained import explain
from experiments.question_b.extremes import likely_and_unlikely
from experiments.question_b.interventions import intervene
from experiments.question_b.pixels import other_pixels
from experiments.question_b.study import SEED, Vae
from experiments.question_b.typical import likely_is_not_typical
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae.likelihood.importance import log_likelihood


def main() -> None:
    """Train or load the autoencoder, score the test images, draw the figures, write the metrics."""
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--images",
        type=int,
        default=1000,
        metavar="N",
        help="test images in the investigation beyond the 100-sample estimate",
    )
    args = parser.parse_args()
    check_at_least("--images", args.images, 20)
    data = announce_and_load(
        args,
        "question (b): log p(x) of every test image, and what makes one likely. About 20 minutes "
        "on 2 cores with a trained checkpoint; --images 200 takes about 6.",
    )
    device = check_device(args.device)
    results = Results(args, data, folder_name(args, "question_b"))
    trained = load_or_train(args, data, Spec(args.latent_dim), path=args.checkpoint)
    results.training = trained.config
    model, guide = trained.model, trained.guide
    vae = Vae(model, guide, device)

    figures: dict[str, Figure] = {}
    metrics: dict[str, dict] = {}
    amortised = log_likelihood(
        model,
        guide,
        data.test_images.to(device),
        num_samples=100,
        seed=SEED,
        progress="100 samples of the guide",
    )
    shown, metrics["guide_100"] = likely_and_unlikely(
        vae, data, amortised, candidates=max(10, args.images // 10)
    )
    explained, metrics["explained"], features = explain(vae, data, amortised)
    figures |= shown | explained

    # a random choice: the first half of MNIST's test images are the tidier ones
    rng = np.random.default_rng(SEED)
    chosen = rng.permutation(len(data.test_images))[: args.images]
    x = data.test_images[chosen]
    figures["enough"], metrics["enough"], refined = enough(
        vae, x, amortised.subset(chosen), args.images // 10
    )
    figures["interventions"], metrics["interventions"] = intervene(vae, x[: args.images // 10])
    figures["typical"], metrics["typical"] = likely_is_not_typical(
        vae, data, x[: max(2, args.images // 20)], refined.value
    )
    part = slice(0, max(12, args.images // 5))
    figures["pixels"], metrics["pixels"] = other_pixels(
        vae,
        x[part],
        refined.subset(part),
        {name: value[chosen][part] for name, value in features.items()},
    )

    results.draw(**figures)
    for name, found in metrics.items():
        results.add(name, found)
    print(
        f"mean score by 100 samples {amortised.value.mean():.2f}, of {len(x)} images by the "
        f"refined guide {refined.value.mean():.2f} nats per image; figures and metrics.json in "
        f"{results.folder}"
    )


if __name__ == "__main__":
    run(main)
