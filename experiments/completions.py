"""The lower half of a digit from its upper half: what a half leaves open, drawn and measured.

The posterior given the upper half alone, p(z | upper), says which latents it leaves possible. Each
draw of it is decoded to a lower half. How likely the true lower half was is
log p(lower | upper) = log p(x) - log p(upper), two estimates by importance sampling, each with the
refined guide.

    python -m experiments.completions
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.cli import announce_and_load, check_at_least, folder_name, make_parser, run
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae.analysis.completion import Completion, complete
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.data.dataset import of_different_classes
from pyro_vae.vae import Vae

IMAGES = 6  # shown, each of another class
DRAWS = 6  # completions of each
SEED = 8


def upper_half() -> Tensor:
    """Return the mask of the upper 14 of 28 rows, `(28, 28)`."""
    return (torch.arange(28) < 14)[:, None].expand(28, 28)


def completed(vae: Vae, x: Tensor, num_samples: int) -> Completion:
    """Complete the lower halves of `x`, `(B, 1, 28, 28)`."""
    options = {"num_draws": DRAWS, "num_samples": num_samples, "seed": SEED}
    return complete(vae.model, vae.guide, x, upper_half(), **options)


def measured(result: Completion, shown: list[int], labels: Tensor) -> list[dict]:
    """Return what is known of each image, in nats."""
    return [
        {
            "test_image": index,
            "digit": int(labels[index]),
            "log_p_lower_given_upper": float(result.missing[b]),
            "se": float(result.missing_se[b]),
            "log_p_upper": float(result.seen.value[b]),
            "log_p_upper_se": float(result.seen.se[b]),
            "khat": float(result.seen.khat[b]),
            "ess": float(result.ess[b]),
        }
        for b, index in enumerate(shown)
    ]


def figure(x: Tensor, result: Completion, rows: list[dict]) -> Figure:
    """Draw a row for each image: itself, its upper half, completions, and their score."""
    figure = Figure(figsize=(1.02 * (DRAWS + 2) + 1.8, 1.06 * len(rows) + 1.0))
    grid = figure.add_gridspec(
        len(rows), DRAWS + 4, width_ratios=[1, 1, 0.12, *[1] * DRAWS, 1.55],
        left=0.015, right=0.985, top=0.885, bottom=0.045, wspace=0.06, hspace=0.06,
    )  # fmt: skip
    grey = torch.where(upper_half(), x, 0.35)  # not a value of the images' own background
    for b, row in enumerate(rows):
        images = {0: x[b], 1: grey[b], **{3 + k: result.images[k, b] for k in range(DRAWS)}}
        for column, image in images.items():
            ax = figure.add_subplot(grid[b, column])
            show_image(ax, image)
            if column > 2:
                ax.axhline(13.5, color=COLOURS["guide"], linewidth=0.8)
            if b == 0 and column < 3:
                ax.set_title(("image", "upper half")[column], fontsize=10, pad=5)
            if b == 0 and column == 3 + (DRAWS - 1) // 2:
                ax.set_title("completions", fontsize=10, pad=5, x=1.03)
        ax = figure.add_subplot(grid[b, DRAWS + 3])
        ax.axis("off")
        score = f"${row['log_p_lower_given_upper']:.1f} \\pm {row['se']:.2f}$"
        ax.text(0.5, 0.5, score, ha="center", va="center", fontsize=10.5)
        if b == 0:
            ax.set_title("$\\log p$(lower | upper), nats", fontsize=9, pad=5)
    figure.suptitle("The lower half from the upper half: draws of $p(z\\,|\\,$upper$)$, decoded")
    return figure


def main() -> None:
    """Load or train the autoencoder, complete six digits, write the figure and the metrics."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=20)
    parser.add_number("--num-samples", 5000, "samples of the refined guide for each image", "K")
    args = parser.parse_args()
    check_at_least("--num-samples", args.num_samples, 2)
    data = announce_and_load(
        args,
        "completions: the lower half of six digits from the upper half. About 1 minute on 2 cores, "
        "and 6 more where an autoencoder is trained.",
    )
    results = Results(args, data, folder_name(args, "completions", 20))
    vae = load_or_train(args, data, Spec(args.latent_dim), path=args.checkpoint)
    results.training = vae.config
    shown = of_different_classes(data.test_labels, IMAGES)
    (x,) = vae.here(data.test_images[shown])
    result = completed(vae, x, args.num_samples)
    rows = measured(result, shown, data.test_labels)
    results.add("images", rows, completions=figure(x, result, rows))
    results.finish()
    mean = np.mean(result.missing)
    print(
        f"log p(lower | upper) {mean:.1f} nats on average; figure and metrics.json in "
        f"{results.folder}"
    )


if __name__ == "__main__":
    run(main)
