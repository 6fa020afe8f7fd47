"""Which digit is it, by Bayes' rule, and how far can that reading be trusted?

p(y | x) is proportional to p(x | y), each log p(x | y) an importance sampling estimate with the
guide q(z | x, y). An estimate from few samples is too low, and more so for a label that the encoder
has never seen with such an image: a poor proposal for wrong labels looks like evidence for the
right one. So the reading is repeated with fewer samples, with the ELBO, with proposals that are
fitted to each image and label (local steps, the refined guide), and with black and white pixels, of
which p(x | y) is a probability. A classifier that was trained to tell digits apart stands beside.
"""

import numpy as np
import pyro
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_d import SEED, mistakes
from experiments.question_d.styles import every_class
from pyro_vae.analysis.classification import (
    class_log_likelihoods,
    label_mutual_information,
    label_probabilities,
    reliability,
)
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.guides.semi_amortised import maximise_elbo
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.intervals import mcnemar, mean_interval, proportion_interval
from pyro_vae.programs import Program
from pyro_vae.vae import Vae

EDGES = (0.5, 0.8, 0.95, 0.99, 0.999, 0.9999, 1.0)  # of the bins of confidence; the first is 1 / C


def measure(
    vae: Vae, data: Dataset, classifier: Classifier, few: int, doubtful: int
) -> tuple[dict, np.ndarray]:
    """Read all test images by Bayes' rule, and see what samples and proposal change.

    `few` images get every label by the refined guide, and the `doubtful` closest calls their
    three best ones. Also returns log p(x | y), `(B, C)`: the refined guide's score for
    these three labels, and the score of 100 samples for all others.
    """
    x, labels = data.test_images, data.test_labels.numpy()
    hundred = label_log_p(vae, x, 100, "Bayes' rule, 100 samples")
    local = with_local_steps(vae)
    tables = {  # log p(x | y) by the name of the proposal or bound
        "1": label_log_p(vae, x, 1, "Bayes' rule, 1 sample").value,
        "10": label_log_p(vae, x, 10, "Bayes' rule, 10 samples").value,
        "100": hundred.value,
        "elbo": hundred.elbo,
        "local": label_log_p(vae, x, 100, "Bayes' rule, 100 samples, local steps", local).value,
    }
    log_p, with_refined = rescored(vae, data, hundred.value, doubtful)
    right = {name: p.argmax(1) == labels for name, p in (tables | {"refined": log_p}).items()}
    own, others = own_and_others(hundred.trusted(), labels)
    of_classifier = class_probabilities(classifier, x)
    metrics = {
        "images": len(labels),
        "by_samples": {name: accuracy_of(table, labels) for name, table in tables.items()},
        "share_trusted_own_label": float(own.mean()),
        "share_trusted_other_labels": float(others.mean()),
        "with_refined": with_refined,
        "changes_from_100": {
            name: mcnemar(right["100"], after) for name, after in right.items() if name != "100"
        },
        "every_label_refined": every_label(vae, data, hundred.value, few),
        "binarised": binarised(vae, data),
        "classifier": accuracy_of(np.log(of_classifier.clip(1e-30)), labels),
        "calibration": {
            "bayes": bins_of_confidence(label_probabilities(log_p), labels),
            "classifier": bins_of_confidence(of_classifier, labels),
        },
        "information": label_mutual_information(log_p, labels),
        "mistakes": mistakes.measure(log_p, labels, of_classifier.argmax(1)),
    }
    return metrics, log_p


def bins_of_confidence(p: np.ndarray, labels: np.ndarray) -> list[dict]:
    """Compare confidence with accuracy; the least confidence of `p`, `(B, C)`, is 1 / C."""
    least = 1 / p.shape[1]
    return reliability(p, labels, np.array([least, *(edge for edge in EDGES if edge > least)]))


def label_log_p(
    vae: Vae, x: Tensor, num_samples: int, progress: str, guide: Program | None = None
) -> Estimate:
    """Estimate log p(x | y) of each image with each label: the arrays are `(B, C)`."""
    estimates = class_log_likelihoods(
        vae.model,
        guide or vae.guide,
        *vae.here(x),
        num_classes=vae.model.decoder.num_classes,
        num_samples=num_samples,
        seed=SEED,
        progress=progress,
    )
    arrays = zip(*(by_label[:-1] for by_label in estimates), strict=True)
    return Estimate(*map(np.column_stack, arrays), num_samples)


def with_local_steps(vae: Vae, steps: int = 8) -> Program:
    """Return the guide with a few steps up the ELBO of each image and the label it is given.

    The encoder was never trained for a wrong label, so the steps give it its chance too.
    """

    def guide(x: Tensor, y: Tensor) -> None:
        params = maximise_elbo(vae.model, vae.guide, vae.guide.encoder(x, y), [x, y], steps)
        with pyro.plate("data", len(x)):
            pyro.sample("z", vae.guide.distribution(params))

    return guide


def refined_log_p(vae: Vae, progress: str, *batch: Tensor) -> Estimate:
    """Estimate log p(x | y), or log p(x), to a standard error of 0.1 nats, by the refined guide."""
    return vae.log_likelihood(*batch, se=0.1, seed=SEED, progress=progress)


def rescored(vae: Vae, data: Dataset, log_p: np.ndarray, doubtful: int) -> tuple[np.ndarray, dict]:
    """Rescore the three best labels with the refined guide, of those images where it matters.

    They are the `doubtful` close calls, whose best label leads the second by least; of the other
    errors, at most as many; and a random check of the rest, half as many, which says how many of
    those that keep their scores would be spoilt. Returns `log_p`, `(B, C)`, with the new scores in
    place, and what they change.
    """
    labels = data.test_labels.numpy()
    ranked, lead = np.argsort(-log_p, 1), mistakes.leads(log_p)
    before = ranked[:, 0] == labels
    close, clear = np.split(np.argsort(lead), [doubtful])
    right, wrong = (
        np.random.default_rng(SEED).permutation(group)
        for group in (clear[before[clear]], clear[~before[clear]])
    )
    retried, checked = wrong[:doubtful], right[: doubtful // 2]
    images = np.concatenate([close, retried, checked])
    best = ranked[images, :3]
    estimates = refined_log_p(
        vae,
        "refined log p(x | y), the three labels that lead",
        data.test_images[images].repeat_interleave(best.shape[1], 0),
        torch.from_numpy(best.reshape(-1)),
    )
    log_p = log_p.copy()
    log_p[images[:, None], best] = estimates.value.reshape(best.shape)
    after = log_p.argmax(1) == labels
    fifths = np.array_split(close, 5)  # in the order of the lead
    return log_p, accuracy_of(log_p, labels) | {
        "images_scored_again": len(images),
        "doubtful": len(close),
        "largest_lead_of_the_doubtful": float(lead[close].max()),
        "mended_by_fifth": [int((~before & after)[part].sum()) for part in fifths],
        "spoilt_by_fifth": [int((before & ~after)[part].sum()) for part in fifths],
        "clear_and_wrong": len(wrong),
        "clear_and_wrong_scored_again": len(retried),
        "clear_and_wrong_mended": int(after[retried].sum()),
        "clear_and_right": len(right),
        "clear_and_right_spoilt": proportion_interval(~after[checked]),
        "share_trusted": float(estimates.trusted().mean()),
    }


def every_label(vae: Vae, data: Dataset, log_p: np.ndarray, count: int) -> dict:
    """Score `count` random images with every label by the refined guide.

    The rises say what the 100 samples behind `log_p`, `(B, C)`, miss of right and wrong labels.
    """
    chosen = random_positions(log_p, count, SEED)
    labels, loose = data.test_labels[chosen].numpy(), log_p[chosen]
    estimates = refined_log_p(
        vae,
        "refined log p(x | y), every label",
        *every_class(data.test_images[chosen], log_p.shape[1]),
    )
    tight = estimates.value.reshape(loose.shape)
    own, others = own_and_others(tight - loose, labels)
    best_other = own_and_others(loose, labels)[1].argmax(1)
    return accuracy_of(tight, labels) | {
        "by_100_samples": accuracy_of(loose, labels),
        "information": label_mutual_information(tight, labels),
        "information_by_100_samples": label_mutual_information(loose, labels),
        "share_trusted": float(estimates.trusted().mean()),
        "rise_own_label": mean_interval(own),
        "rise_best_other_label": mean_interval(others[np.arange(len(labels)), best_other]),
        "rise_other_labels": mean_interval(others.mean(1)),
    }


def binarised(vae: Vae, data: Dataset) -> dict:
    """Read the test images with each pixel drawn black or white, its grey level as probability."""
    x = torch.bernoulli(data.test_images, generator=torch.Generator().manual_seed(SEED))
    labels = data.test_labels.numpy()
    log_p = label_log_p(vae, x, 100, "Bayes' rule, binarised images").value
    return accuracy_of(log_p, labels) | {
        "information": label_mutual_information(log_p, labels),
        "calibration": bins_of_confidence(label_probabilities(log_p), labels),
    }


def own_and_others(table: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split `table`, `(B, C)`, into the entries of each image's own label and of the others.

    They are `(B,)` and `(B, C - 1)`.
    """
    own = np.arange(table.shape[1]) == labels[:, None]
    return table[own], table[~own].reshape(len(table), -1)


def accuracy_of(log_p: np.ndarray, labels: np.ndarray) -> dict:
    """Return the share read right, the mean confidence, and the mean log p(y | x) of the label."""
    p = label_probabilities(log_p)
    own = p[np.arange(len(labels)), labels]
    return {
        "accuracy": proportion_interval(p.argmax(1) == labels),
        "mean_sure": float(p.max(1).mean()),
        "mean_log_p_of_label": float(np.log(own.clip(1e-300)).mean()),
    }


def figure(metrics: dict) -> Figure:
    """Show how often each confidence is right, on logit axes."""
    figure = Figure(figsize=(6.5, 5))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    for bins, colour, label in (
        (metrics["calibration"]["bayes"], COLOURS["posterior"], "Bayes' rule"),
        (metrics["binarised"]["calibration"], COLOURS["guide"], "the same, black and white"),
        (metrics["calibration"]["classifier"], "0.5", "the classifier"),
    ):
        shown = [part for part in bins if part["images"] >= 10]
        confidence = _logit([part["sure"] for part in shown])
        accuracy = _logit([part["right"]["mean"] for part in shown])
        low, high = _logit([part["right"]["ci95"] for part in shown]).T
        errors = [accuracy - low, high - accuracy]
        ax.errorbar(confidence, accuracy, errors, fmt="o-", ms=4, color=colour, label=label)
    ticks = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(_logit(ticks), [f"{t * 100:g}%" for t in ticks])
    ends = _logit([0.4, 1.0])
    ax.plot(ends, ends, color="0.3", lw=0.8, ls="--")
    ax.set(
        xlabel="how sure: largest p(y | x)",
        ylabel="how often right",
        title="Bayes' rule is too sure where it lies below the line",
    )
    ax.legend(loc="upper left")
    return figure


def _logit(p: list) -> np.ndarray:
    """Return log p / (1 - p), with p kept a third of 1e-5 away from 0 and 1."""
    p = np.clip(p, 1e-5 / 3, 1 - 1e-5 / 3)
    return np.log(p / (1 - p))
