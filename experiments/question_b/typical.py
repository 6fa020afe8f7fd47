"""Is a likely image a typical one?

No: a blank image, for instance, scores higher than every test image of MNIST. Sets of images of
other kinds are scored and held against the scores of test images: those of black and white pixels
against the binarised test images, since grey pixels have a lower score whatever they show.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_b import SEED
from experiments.question_b.shared import refined_log_p
from pyro_vae.analysis.features import entropy_floor
from pyro_vae.analysis.interventions import shift, shuffle_pixels
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.analysis.sampling import pixel_samples
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.data.loading import load_digits
from pyro_vae.vae import Vae

SIDES = "left", "right"
GREY, BINARISED = "test images", "test images, binarised"  # what the other sets are ranked among
SHOWN = (
    "blank image", "model: drawn pixels", BINARISED, GREY, "upside down", "scikit-learn's digits",
    "pixels shuffled", "inverted",
)  # fmt: skip


def measure(
    vae: Vae, sets: dict[str, Tensor], reference: np.ndarray
) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the metrics of each set of images, and its scores.

    `reference` holds the scores of test images, `(B,)`, by the refined guide.
    """
    estimates = {name: refined_log_p(vae, x, name) for name, x in sets.items()}
    scores = {name: estimate.value for name, estimate in estimates.items()}
    references = {GREY: np.sort(reference), BINARISED: np.sort(scores[BINARISED])}
    metrics = {}
    for name, x in sets.items():
        value, among = scores[name], BINARISED if ((x == 0) | (x == 1)).all() else GREY
        below, upto = (np.searchsorted(references[among], value, side) for side in SIDES)
        rank = (below + upto) / 2 / len(references[among])  # half of those that are equal
        metrics[name] = {
            "mean": float(value.mean()),
            "median": float(np.median(value)),
            "min": float(value.min()),
            "max": float(value.max()),
            "floor": float(entropy_floor(x).mean()),
            "images": len(value),
            "share_trusted": float(estimates[name].trusted().mean()),
            "ranked_among": among,
            # the probability that it scores higher than one of these: 50% where the two are alike
            "likelier_than_a_test_image": float(rank.mean()),
        }
    return metrics, scores


def image_sets(vae: Vae, data: Dataset, x: Tensor) -> dict[str, Tensor]:
    """Return sets of images by name, most of them with as many as the test images `x`."""
    rng = torch.Generator().manual_seed(SEED)
    count = len(x)
    means = vae.decode(torch.randn(count, vae.latent_dim, generator=rng)).cpu()
    return {
        "blank image": torch.zeros_like(x[:1]),
        "mean training image": data.train_images.mean(0, keepdim=True),
        "model: mean images": means,
        "model: drawn pixels": pixel_samples(means, SEED),
        "training images": _some(data.train_images, count),
        GREY: x,
        BINARISED: torch.bernoulli(x, generator=rng),
        "shifted by 4 pixels": shift(x, 4, 4),
        "upside down": x.flip(2),
        "scikit-learn's digits": _some(load_digits().test_images, count),
        "pixels shuffled": shuffle_pixels(x, SEED),
        "uniform noise": torch.rand(x.shape, generator=rng),
        "inverted": 1 - x,
    }


def _some(images: Tensor, count: int) -> Tensor:
    return images[random_positions(images, count, SEED)]


def figure(sets: dict[str, Tensor], scores: dict[str, np.ndarray], reference: np.ndarray) -> Figure:
    """Draw the scores of eight sets, by their median, over the range of the test images'."""
    order = sorted(SHOWN, key=lambda name: -np.median(scores[name]))
    figure = Figure(figsize=(9, 0.6 * len(order) + 1.3))
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 2.6])
    left.set(xlim=(0, 6), ylim=(len(order) - 0.5, -0.5))
    left.axis("off")
    for row, name in enumerate(order):
        left.text(0, row, name, va="center", fontsize=10)
        for column, image in enumerate(sets[name][:2]):
            bounds = [4.2 + 0.92 * column, row - 0.45, 0.85, 0.9]
            show_image(left.inset_axes(bounds, transform=left.transData), image)
        values = -scores[name]
        height = row + np.random.default_rng(0).uniform(-0.28, 0.28, len(values))
        colour = COLOURS["posterior"] if name in (GREY, BINARISED) else COLOURS["guide"]
        big = 7 if len(values) == 1 else 4
        right.plot(values, height, ".", ms=big, alpha=0.6, color=colour, rasterized=True)
        right.plot([np.median(values)] * 2, [row - 0.38, row + 0.38], color="k", lw=1.6)
    low, high = np.quantile(-reference, [0.01, 0.99])
    right.axvspan(low, high, color=COLOURS["posterior"], alpha=0.1)
    right.set(xscale="log", ylim=(len(order) - 0.5, -0.5))
    right.set_xlabel(
        "score, nats per image: likelier to the right\nblue: where 98% of test images are"
    )
    ticks = [20, 50, 100, 200, 500, 1000, 2000, 5000]
    right.set_xticks(ticks, [f"−{tick:,}" for tick in ticks])
    right.minorticks_off()
    right.invert_xaxis()
    right.set_yticks([])
    figure.suptitle("Likely is not typical: images of other kinds under the same model")
    return figure
