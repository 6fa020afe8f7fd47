"""Classification by Bayes' rule."""

import numpy as np
import pyro
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from experiments.question_d import SEED
from pyro_vae.analysis.classification import (
    class_log_likelihoods,
    label_mutual_information,
    label_probabilities,
    reliability,
)
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.data import Dataset
from pyro_vae.guides.semi_amortised import maximise_elbo
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.intervals import mcnemar, mean_interval, proportion_interval
from pyro_vae.likelihood.traces import Program
from pyro_vae.vae import Vae

EDGES = np.array([0.1, 0.5, 0.8, 0.95, 0.99, 0.999, 0.9999, 1.0])
NAMES = {
    "1": "guide, 1 sample",
    "elbo": "ELBO, 100 samples",
    "local": "100 samples,\n8 local steps",
}


def refined_log_p(vae: Vae, what: str, *batch: Tensor) -> Estimate:
    """Estimate log p(x | y), or log p(x), from 1,000 samples of the refined guide."""
    return vae.refined().log_likelihood(*batch, num_samples=1000, seed=SEED, progress=what)


def with_local_steps(vae: Vae, steps: int = 8) -> Program:
    """The guide, its numbers moved by steps up the ELBO of each image with the label it is given.

    Right or wrong, so that a wrong label, which no encoder was trained for, gets its chance too.
    """

    def guide(x: Tensor, y: Tensor) -> None:
        numbers = maximise_elbo(vae.model, vae.guide, vae.guide.encoder(x, y), [x, y], steps)
        with pyro.plate("data", len(x)):
            pyro.sample("z", vae.guide.distribution(numbers))

    return guide


def table_of(found: list[Estimate], part: str = "value") -> np.ndarray:
    """One number of each label's estimates: `(B, 10)`."""
    return np.column_stack([getattr(one, part) for one in found])


def classify(
    vae: Vae, data: Dataset, classifier: Classifier, few: int, doubtful: int
) -> tuple[dict[str, Figure], dict, np.ndarray]:
    """p(y | x) of all test images by the same estimator, and what samples and guide change.

    Also returns log p(x | y), `(B, 10)`: by 100 samples, and by the refined guide where it matters.
    """
    x, labels = data.test_images, data.test_labels.numpy()

    def scores(
        images: Tensor, num_samples: int, what: str, guide: Program = vae.guide
    ) -> list[Estimate]:
        images = images.to(vae.device)
        options = {"num_samples": num_samples, "seed": SEED, "progress": f"Bayes' rule, {what}"}
        return class_log_likelihoods(vae.model, guide, images, **options)

    tables = {str(k): table_of(scores(x, k, f"{k} samples")) for k in (1, 10)}
    found = scores(x, 100, "100 samples")
    log_p = table_of(found)
    tables |= {"100": log_p, "elbo": table_of(found, "elbo")}
    tables["local"] = table_of(scores(x, 100, "100 samples, local steps", with_local_steps(vae)))
    own, other = own_and_others(np.column_stack([one.trusted() for one in found]), labels)
    metrics: dict = {
        "images": len(labels),
        "by_samples": {k: accuracy_of(table, labels) for k, table in tables.items()},
        "share_trusted_own_label": float(own.mean()),
        "share_trusted_other_labels": float(other.mean()),
    }
    mixed, metrics["with_refined"] = scored_again(vae, data, log_p, doubtful)
    right = {k: table.argmax(1) == labels for k, table in (tables | {"refined": mixed}).items()}
    metrics["changes_from_100"] = {
        k: mcnemar(right["100"], one) for k, one in right.items() if k != "100"
    }

    # all ten labels by the refined guide, for a random choice of images
    chosen = np.random.default_rng(SEED).permutation(len(labels))[:few]
    every = refined_log_p(
        vae,
        "refined log p(x | y), every label",
        x[chosen].repeat_interleave(10, 0),
        torch.arange(10).repeat(len(chosen)),
    )
    tight, loose, y = every.value.reshape(-1, 10), log_p[chosen], labels[chosen]
    own, other = own_and_others(tight - loose, y)
    runner_up = own_and_others(loose, y)[1].argmax(1)
    metrics["every_label_refined"] = {
        **accuracy_of(tight, y),
        "by_100_samples": accuracy_of(loose, y),
        "information": label_mutual_information(tight, y),
        "information_by_100_samples": label_mutual_information(loose, y),
        "share_trusted": float(every.trusted().mean()),
        # what 100 samples of the guide miss
        "rise_own_label": mean_interval(own),
        "rise_best_other_label": mean_interval(other[np.arange(len(y)), runner_up]),
        "rise_other_labels": mean_interval(other.mean(1)),
    }

    # black and white pixels, of which p(x | y) is a probability
    binary = torch.bernoulli(x, generator=torch.Generator().manual_seed(SEED))
    table = table_of(scores(binary, 100, "binarised images"))
    metrics["binarised"] = accuracy_of(table, labels) | {
        "information": label_mutual_information(table, labels),
        "calibration": reliability(label_probabilities(table), labels, EDGES),
    }

    p = label_probabilities(mixed)
    judge = class_probabilities(classifier, x)
    metrics["classifier"] = accuracy_of(np.log(judge.clip(1e-30)), labels)
    metrics["calibration"] = {
        "bayes": reliability(p, labels, EDGES),
        "classifier": reliability(judge, labels, EDGES),
    }
    metrics["information"] = label_mutual_information(mixed, labels)
    lead = leads(mixed)
    wrong = np.flatnonzero(~right["refined"])
    metrics["mistakes"] = [
        {
            "image": int(i),
            "digit": int(labels[i]),
            "read_as": int(p[i].argmax()),
            "lead_nats": float(lead[i]),
            "classifier": int(judge[i].argmax()),
        }
        for i in wrong[np.argsort(-lead[wrong])]
    ]
    figures = {
        "classification": classification_figure(metrics),
        "mistakes": mistakes_figure(x, metrics["mistakes"][:24], len(wrong)),
    }
    return figures, metrics, mixed


def scored_again(
    vae: Vae, data: Dataset, log_p: np.ndarray, doubtful: int
) -> tuple[np.ndarray, dict]:
    """`log_p`, `(B, 10)`, with the three labels that lead scored by the refined guide, in part.

    Namely of the `doubtful` images, whose first label leads the second by least; of the others that
    are misread, at most as many; and of half as many that are read right, drawn at random, which
    say how many of those that are not scored again would be spoilt.
    """
    labels = data.test_labels.numpy()
    ranked = np.argsort(-log_p, 1)
    lead = leads(log_p)
    order = np.argsort(lead)
    close, clear = order[:doubtful], order[doubtful:]
    before = ranked[:, 0] == labels
    right, wrong = (
        np.random.default_rng(SEED).permutation(some)
        for some in (clear[before[clear]], clear[~before[clear]])
    )
    checked, retried = right[: doubtful // 2], wrong[:doubtful]
    again = np.concatenate([close, retried, checked])
    found = refined_log_p(
        vae,
        "refined log p(x | y), the three labels that lead",
        data.test_images[again].repeat_interleave(3, 0),
        torch.from_numpy(ranked[again, :3].reshape(-1)),
    )
    mixed = log_p.copy()
    mixed[again[:, None], ranked[again, :3]] = found.value.reshape(-1, 3)
    after = mixed.argmax(1) == labels
    fifths = np.array_split(close, 5)
    metrics = accuracy_of(mixed, labels) | {
        "images_scored_again": len(again),
        "doubtful": len(close),
        "largest_lead_of_the_doubtful": float(lead[close].max()),
        # of the doubtful, in the order of the lead
        "mended_by_fifth": [int((~before & after)[part].sum()) for part in fifths],
        "spoilt_by_fifth": [int((before & ~after)[part].sum()) for part in fifths],
        "clear_and_wrong": len(wrong),
        "clear_and_wrong_scored_again": len(retried),
        "clear_and_wrong_mended": int(after[retried].sum()),
        "clear_and_right": len(right),
        "clear_and_right_spoilt": proportion_interval(~after[checked]),
        "share_trusted": float(found.trusted().mean()),
    }
    return mixed, metrics


def leads(log_p: np.ndarray) -> np.ndarray:
    """By how much the best label of each image leads the second, nats, `(B,)`."""
    return np.diff(np.sort(log_p, 1)[:, -2:])[:, 0]


def own_and_others(table: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of `table`, `(B, 10)`: each image's own label's entry, `(B,)`, and the others', `(B, 9)`."""
    own = np.arange(10) == labels[:, None]
    return table[own], table[~own].reshape(-1, 9)


def accuracy_of(log_p: np.ndarray, labels: np.ndarray) -> dict:
    """The share read right, with its 95% interval; how sure, and the mean log p(y | x)."""
    p = label_probabilities(log_p)
    own = p[np.arange(len(labels)), labels]
    return {
        "accuracy": proportion_interval(p.argmax(1) == labels),
        "mean_sure": float(p.max(1).mean()),
        "mean_log_p_of_label": float(np.log(own.clip(1e-300)).mean()),
    }


def classification_figure(metrics: dict) -> Figure:
    """Errors by samples and guide, calibration, and what 100 samples miss."""
    figure = Figure(figsize=(13.4, 4.3))
    figure.set_layout_engine("constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.15, 1, 0.9])
    rows = {
        NAMES.get(k, f"guide, {k} samples"): found["accuracy"]
        for k, found in metrics["by_samples"].items()
    }
    rows["100, where in doubt\nthe refined guide"] = metrics["with_refined"]["accuracy"]
    rows["black and white\npixels, 100"] = metrics["binarised"]["accuracy"]
    rows["the classifier\n(trained for it)"] = metrics["classifier"]["accuracy"]
    place = np.arange(len(rows))[::-1]
    error = np.array([1 - row["mean"] for row in rows.values()])
    ends = np.array([[1 - end for end in row["ci95"]] for row in rows.values()])
    colours = [COLOURS["guide"]] * len(metrics["by_samples"])
    colours += [COLOURS["posterior"], COLOURS["guide"], "0.5"]
    left.barh(place, error, 0.6, color=colours)
    left.errorbar(error, place, xerr=[error - ends[:, 1], ends[:, 0] - error], fmt="none",
                  color="k", lw=1)  # fmt: skip
    left.set_yticks(place, rows)
    left.set(xlabel="test images misread (95% intervals)", title="By Bayes' rule, all test images")
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.xaxis.set_major_formatter("{x:.1%}")
    for found, colour, label in (
        (metrics["calibration"]["bayes"], COLOURS["posterior"], "Bayes' rule"),
        (metrics["binarised"]["calibration"], COLOURS["guide"], "the same, black and white"),
        (metrics["calibration"]["classifier"], "0.5", "the classifier"),
    ):
        bins = [one for one in found if one["images"] >= 10]
        sure = logit(np.array([one["sure"] for one in bins]))
        share = logit(np.array([one["right"]["mean"] for one in bins]))
        low, high = logit(np.array([one["right"]["ci95"] for one in bins])).T
        middle.errorbar(
            sure, share, fmt="o-", ms=4, color=colour, label=label, yerr=[share - low, high - share]
        )
    ticks = np.array([0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999])
    for axis in (middle.xaxis, middle.yaxis):
        axis.set_ticks(logit(ticks), [f"{t * 100:g}%" for t in ticks], fontsize=8)
    ends = logit(np.array([0.4, 1.0]))
    middle.plot(ends, ends, color="0.3", lw=0.8, ls="--")
    middle.set(
        xlabel="how sure: largest p(y | x)",
        ylabel="how often right",
        title="Calibration (all right: at the top)",
    )
    middle.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    every = metrics["every_label_refined"]
    names = ("rise_own_label", "rise_best_other_label", "rise_other_labels")
    for place, name in enumerate(names):
        found = every[name]
        right.bar(place, found["mean"], 0.55, color=COLOURS["posterior"])
        right.errorbar(place, found["mean"], yerr=found["ci95"][1] - found["mean"], color="k", lw=1)
    right.set_xticks(
        range(3), ["the image's\nown label", "the best\nother label", "all nine\nothers"]
    )
    right.set(
        ylabel="nats",
        title="What 100 samples miss: refined minus\n100-sample log p(x | y), "
        f"{found['images']} images",
    )
    return figure


def logit(p: np.ndarray) -> np.ndarray:
    """log p / (1 - p), of shares at the edge as if a third of one in 100,000 were missing."""
    p = np.clip(p, 1e-5 / 3, 1 - 1e-5 / 3)
    return np.log(p / (1 - p))


def mistakes_figure(images: Tensor, mistakes: list[dict], count: int) -> Figure:
    """Test images that Bayes' rule misreads, the surest mistakes first, of `count` in all."""
    columns = 8
    rows = max(1, -(-len(mistakes) // columns))
    figure = Figure(figsize=(1.4 * columns, 1.95 * rows + 1.0))
    figure.set_layout_engine("constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[len(mistakes) :]:
        ax.axis("off")
    for ax, wrong in zip(axes, mistakes, strict=False):
        show_image(ax, images[wrong["image"]], f"a {wrong['digit']}, read as {wrong['read_as']}")
        ax.set_xlabel(
            f"by {wrong['lead_nats']:.1f} nats\nclassifier: {wrong['classifier']}",
            fontsize=8,
            labelpad=2,
        )
    figure.suptitle(
        f"What Bayes' rule misreads: {len(mistakes)} of {count} test images, the surest first\n"
        "(by how many nats the wrong label leads, and what the classifier reads)"
    )
    return figure
