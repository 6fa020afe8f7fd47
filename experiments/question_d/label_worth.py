"""How many nats is it worth to know the label?

log p(x | y) of the conditional autoencoder is held against log p(x) of one without labels, of equal
d and trained as long, image by image. The difference has two parts. One is what the label says
under the conditional model alone, log p(x | y) - log p(x) with p(x) = mean_y p(x | y): at most
log C of C classes. The other is how far that p(x) is from the other model's, which is no merit of
the label.
"""

import numpy as np
from matplotlib.figure import Figure
from scipy.special import logsumexp

from experiments.question_d import SEED
from experiments.question_d.classification import refined_log_p
from pyro_vae.analysis.plots import COLOURS, short_name
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.vae import Vae


def measure(
    vae: Vae, plain: Vae, data: Dataset, log_p: np.ndarray, count: int
) -> tuple[dict, np.ndarray]:
    """Compare `vae` with `plain`, which takes no labels, on `count` random test images.

    `log_p`, `(B, C)`, is log p(x | y) of all test images. Also returns log p(x | y) - log p(x) of
    the images compared, nats, `(count,)`.
    """
    chosen = random_positions(log_p, count, SEED)
    x, y = data.test_images[chosen], data.test_labels[chosen]
    conditional = refined_log_p(vae, "refined log p(x | y)", x, y)
    unconditional = refined_log_p(plain, "refined log p(x)", x)
    difference = conditional.value - unconditional.value
    labels = y.numpy()
    table = log_p[chosen]  # a copy
    table[np.arange(len(table)), labels] = conditional.value
    classes = table.shape[1]
    marginal = logsumexp(table, 1) - np.log(classes)  # log p(x) of the conditional model
    metrics = {
        "conditional": conditional.summary() | {"pixels": "grey (surrogate score)"},
        "unconditional": unconditional.summary() | {"pixels": "grey (surrogate score)"},
        "difference": mean_interval(difference),
        "by_the_label": mean_interval(conditional.value - marginal),
        "by_the_model": mean_interval(marginal - unconditional.value),
        "by_digit": {
            data.classes[label]: mean_interval(difference[labels == label])
            for label in np.unique(labels)
        },
        "entropy_of_the_label": float(np.log(classes)),
    }
    return metrics, difference


def figure(metrics: dict, difference: np.ndarray, noun: str) -> Figure:
    """Show log p(x | y) - log p(x) image by image, and its mean for each class."""
    figure = Figure(figsize=(10.6, 3.9))
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2)
    low, high = np.quantile(difference, [0.002, 0.998])
    left.hist(difference.clip(low, high), 50, color=COLOURS["posterior"])
    mean, entropy = metrics["difference"]["mean"], metrics["entropy_of_the_label"]
    left.axvline(mean, color="k", lw=1.2, label=f"mean {mean:.2f}")
    log_classes = f"log {np.exp(entropy):.0f}"
    left.axvline(entropy, color="k", ls="--", lw=1.2, label=f"{log_classes}, the label's entropy")
    left.set(
        xlabel="$\\log p(x\\,|\\,y) - \\log p(x)$, nats (the end bars: all beyond)",
        ylabel="test images",
        title=f"Conditional minus unconditional model, {len(difference):,} images",
    )
    left.legend(fontsize=8.5)
    by_digit = metrics["by_digit"]
    means = np.array([interval["mean"] for interval in by_digit.values()])
    half = np.array([interval["ci95"][1] for interval in by_digit.values()]) - means
    places, names = range(len(by_digit)), [short_name(name) for name in by_digit]
    right.errorbar(places, means, yerr=half, fmt="o", color=COLOURS["posterior"])
    right.axhline(entropy, color="k", ls="--", lw=1.2, label=log_classes)
    right.legend(fontsize=8.5, loc="lower right")
    right.axhline(0, color="0.4", lw=0.8)
    right.set(xlabel=noun, ylabel="nats per image (95%)", title=f"By {noun}")
    right.set_xticks(places, names, rotation=0 if max(map(len, names)) < 4 else 45)
    return figure
