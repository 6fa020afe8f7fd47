"""What the label is worth in nats."""

import numpy as np
from matplotlib.figure import Figure
from scipy.special import logsumexp

from experiments.question_d.classification import refined_log_p
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.data import Dataset
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.vae import Vae


def label_worth(
    vae: Vae,
    plain: Vae,
    data: Dataset,
    chosen: np.ndarray,
    log_p: np.ndarray,
) -> tuple[Figure, dict]:
    """Held-out log p(x | y) against log p(x) of the unconditional model of equal d, paired.

    Two things make the difference: what the label says under the one model, with its own
    p(x) = mean_y p(x | y), for which `log_p` has log p(x | y) of all test images and labels; and
    how far that p(x) is from the other model's.
    """
    x, y = data.test_images[chosen], data.test_labels[chosen]
    conditional = refined_log_p(vae, "refined log p(x | y)", x, y)
    unconditional = refined_log_p(plain, "refined log p(x)", x)
    difference = conditional.value - unconditional.value
    labels = y.numpy()
    table = log_p[chosen]  # a copy
    table[np.arange(len(table)), labels] = conditional.value
    own = logsumexp(table, 1) - np.log(10)
    metrics = {
        "conditional": conditional.summary() | {"pixels": "grey (surrogate score)"},
        "unconditional": unconditional.summary() | {"pixels": "grey (surrogate score)"},
        "difference": mean_interval(difference),
        "by_the_label": mean_interval(conditional.value - own),
        "by_the_model": mean_interval(own - unconditional.value),
        "by_digit": {
            str(digit): mean_interval(difference[labels == digit])
            for digit in range(10)
            if (labels == digit).any()
        },
        "entropy_of_the_label": float(np.log(10)),
    }
    return information_figure(difference, labels, metrics), metrics


def information_figure(difference: np.ndarray, labels: np.ndarray, metrics: dict) -> Figure:
    """log p(x | y) minus log p(x) image by image, and its mean for each digit."""
    figure = Figure(figsize=(10.6, 3.9))
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2)
    low, high = np.quantile(difference, [0.002, 0.998])
    left.hist(difference.clip(low, high), 50, color=COLOURS["posterior"])
    mean = metrics["difference"]["mean"]
    for value, style, name in (
        (mean, "-", f"mean {mean:.2f}"),
        (metrics["entropy_of_the_label"], "--", "log 10, the label's entropy"),
    ):
        left.axvline(value, color="k", ls=style, lw=1.2, label=name)
    left.set(
        xlabel="$\\log p(x\\,|\\,y) - \\log p(x)$, nats (the end bars: all beyond)",
        ylabel="test images",
        title=f"Conditional minus unconditional model, {len(difference):,} images",
    )
    left.legend(fontsize=8.5)
    found = metrics["by_digit"]
    means = np.array([row["mean"] for row in found.values()])
    half = np.array([row["ci95"][1] for row in found.values()]) - means
    right.errorbar(list(map(int, found)), means, yerr=half, fmt="o", color=COLOURS["posterior"])
    entropy = metrics["entropy_of_the_label"]
    right.axhline(entropy, color="k", ls="--", lw=1.2, label="log 10")
    right.legend(fontsize=8.5, loc="lower right")
    right.axhline(0, color="0.4", lw=0.8)
    right.set(xlabel="digit", ylabel="nats per image (95%)", title="By digit", xticks=range(10))
    return figure
