"""Train against test."""

import numpy as np
from matplotlib.axes import Axes

from experiments.question_c.autoencoders import PAIRS, SEED, Vaes, refined
from experiments.question_c.spread import COLOURS
from pyro_vae.analysis.features import entropy_floor
from pyro_vae.data import Dataset
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.intervals import welch_interval


def overfitting(vaes: Vaes, data: Dataset, chosen: np.ndarray) -> dict:
    """Train against test: of log p (the generator) and of the gap (the encoder).

    Of each image the mean over the trainings. Training and test images are different images, and
    may differ in difficulty by more than their floors; what differs between two models is free of
    that.
    """
    count = max(2, len(chosen) // 2)
    picked = np.random.default_rng(SEED).permutation(len(data.train_images))[:count]
    x, test = data.train_images[picked], data.test_images[chosen]
    floor, test_floor = -entropy_floor(x), -entropy_floor(test)
    metrics: dict = {
        "train_images": count,
        "test_images": len(chosen),
        # how much easier the training images are by themselves, for any model
        "floor": unpaired(floor, test_floor),
    }
    scores: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for key, seeds in vaes.items():
        bounds = [log_likelihood(vae.model, vae.guide, vae.here(x), seed=SEED) for vae in seeds]
        again = [refined(vae, x, f"{key}: training images") for vae in seeds]
        log_p = np.mean([one.value for one in again], 0)
        test_log_p = np.mean([vae.refined.value for vae in seeds], 0)
        elbo = np.mean([one.elbo for one in bounds], 0)
        test_elbo = np.mean([vae.bounds.elbo[chosen] for vae in seeds], 0)
        scores[key] = (log_p, test_log_p)
        metrics[key] = {
            "log_p": unpaired(log_p, test_log_p),
            "above_floor": unpaired(log_p - floor, test_log_p - test_floor),
            "elbo_gap": unpaired(log_p - elbo, test_log_p - test_elbo),
            "share_trusted": float(np.mean([one.trusted() for one in again])),
        }
    for one, other in PAIRS:
        metrics[f"{one} - {other}"] = unpaired(
            *(a - b for a, b in zip(scores[one], scores[other], strict=True))
        )
    return metrics


def unpaired(one: np.ndarray, other: np.ndarray) -> dict:
    """Means of two sets of images, and their difference with its 95% interval."""
    return {
        "train": float(one.mean()),
        "test": float(other.mean()),
        "train_minus_test": welch_interval(one, other),
    }


def overfitting_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """Training images minus test images, the share of the generator and that of the encoder."""
    what = {
        "above_floor": "generator: log p(x)\nminus the best score\nof its grey levels",
        "elbo_gap": "encoder:\nlog p(x) − ELBO",
    }
    for offset, key in zip((-0.25, 0, 0.25), labels, strict=True):
        rows = [found[key][name]["train_minus_test"] for name in what]
        means = np.array([row["mean"] for row in rows])
        half = np.array([row["ci95"][1] - row["mean"] for row in rows])
        ax.bar(np.arange(2) + offset, means, 0.22, color=COLOURS[key])
        ax.errorbar(np.arange(2) + offset, means, yerr=half, fmt="none", color="k", lw=1)
    ax.axhline(0, color="0.2", lw=0.9)
    ax.set_xticks(range(2), what.values())
    ax.set(
        ylabel="training minus test images, nats (95%)",
        title="Overfitting of generator and of encoder",
    )
