"""Which test images are the likeliest and the unlikeliest, overall and of each class?

The question asks for a ranking by 100 samples of the encoder's guide. These err downwards by far
more than upwards. So the refined guide scores the images at both ends of the ranking again, and
three times as many at the lower end, where an image may merely be underrated.
"""

from itertools import zip_longest

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_b.shared import nats, refined_log_p
from pyro_vae.analysis.plots import short_name, show_image
from pyro_vae.data.dataset import Dataset
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.vae import Vae


def measure(vae: Vae, data: Dataset, amortised: Estimate, num_candidates: int) -> dict:
    """Rank all test images by 100 samples, and the candidates by the refined guide.

    `amortised` holds the 100-sample estimates of all test images. The candidates are the
    `num_candidates` images with the highest of them, and three times as many with the lowest.
    """
    score, labels = amortised.value, data.test_labels.numpy()
    overall, by_class = extremes(score, labels, len(data.classes))
    order = np.argsort(-score)
    first, last = order[:num_candidates], order[-3 * num_candidates :]
    images = np.unique(np.concatenate([overall, first, last, *by_class.values()]))
    progress = "refined log p of likely and unlikely images"
    refined = refined_log_p(vae, data.test_images[images], progress)
    records = {
        int(i): {
            "image": int(i),
            "digit": int(labels[i]),
            "score": float(score[i]),
            "se": float(amortised.se[i]),
            "khat": float(amortised.khat[i]),
            "refined": float(value),
            "refined_se": float(se),
        }
        for i, value, se in zip(images, refined.value, refined.se, strict=True)
    }

    def pick(chosen: np.ndarray) -> list[dict]:
        return [records[i] for i in chosen]

    likeliest = sorted(pick(first), key=lambda record: -record["refined"])[:10]
    unlikeliest = sorted(pick(last), key=lambda record: -record["refined"])[-10:]
    return {
        "summary": amortised.summary() | {"pixels": "grey (surrogate score)"},
        "sd_over_images": float(score.std(ddof=1)),
        "quantiles_1_25_50_75_99": np.quantile(score, [0.01, 0.25, 0.5, 0.75, 0.99]).tolist(),
        "likely": pick(overall[:10]),
        "unlikely": pick(overall[10:]),
        "likely_refined": likeliest,
        "unlikely_refined": unlikeliest,
        "unlikely_in_both": len({*overall[10:]} & {record["image"] for record in unlikeliest}),
        # By how much 100 samples must err for an image that is no candidate to belong here: too
        # low for one of the likeliest, too high for one of the unlikeliest.
        "room_beyond_candidates": {
            "likely": likeliest[-1]["refined"] - float(score[first[-1]]),
            "unlikely": float(score[last[0]]) - unlikeliest[0]["refined"],
        },
        "digits": {
            data.classes[label]: {
                "mean": float(score[labels == label].mean()),
                "sd": float(score[labels == label].std(ddof=1)) if len(chosen) > 1 else None,
                "likely": pick(chosen[: (len(chosen) + 1) // 2]),
                "unlikely": pick(chosen[(len(chosen) + 1) // 2 :]),
            }
            for label, chosen in by_class.items()
        },
        "refined_share_trusted": float(refined.trusted().mean()),
    }


def extremes(
    scores: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return the indices of the 10 likeliest and 10 unlikeliest; and of 4 and 4 of each class.

    Of fewer than eight images of a class all are returned, and of none the class is left out.
    """
    order = np.argsort(-scores)
    by_class = {}
    for label in range(classes):
        of_class = order[labels[order] == label]
        if len(of_class):
            several = len(of_class) > 8
            by_class[label] = np.concatenate([of_class[:4], of_class[-4:]]) if several else of_class
    return np.concatenate([order[:10], order[-10:]]), by_class


def figure(images: Tensor, metrics: dict) -> Figure:
    """Draw the six likeliest and the six unlikeliest test images by the refined guide."""
    rows = {
        "likeliest": metrics["likely_refined"][:6],
        "unlikeliest": metrics["unlikely_refined"][-6:],
    }
    title = f"The likeliest and the unlikeliest of {len(images):,} test images: refined log p(x)"
    return gallery(images, rows, title)


def classes_figure(images: Tensor, metrics: dict, noun: str) -> Figure:
    """Draw two of the likeliest and two of the unlikeliest test images of each class."""
    classes = []
    for name, of_class in metrics["digits"].items():
        ends = []
        for key, end in (("likely", slice(2)), ("unlikely", slice(-2, None))):
            chosen = sorted(of_class[key], key=lambda record: -record["refined"])[end]
            ends += [*chosen, *[None] * (2 - len(chosen))]
        classes.append((short_name(name), ends))
    half = (len(classes) + 1) // 2
    rows = {}
    for (left, first), (right, second) in zip_longest(
        classes[:half], classes[half:], fillvalue=("", [None] * 4)
    ):
        rows[f"{left} and {right}" if right else left] = [*first, None, *second]
    title = f"Of each {noun}, two of the likeliest images, then two of the unlikeliest"
    return gallery(images, rows, title)


def gallery(images: Tensor, rows: dict[str, list[dict | None]], title: str) -> Figure:
    """Draw rows of test images, each below its refined score; None leaves a gap."""
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.1 * columns + 1.2, 1.3 * len(rows) + 0.7))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row_axes, (name, records) in zip(axes, rows.items(), strict=True):
        for ax, record in zip_longest(row_axes, records):
            if record is None:
                ax.axis("off")
                continue
            show_image(ax, images[record["image"]], nats(record["refined"]))
        row_axes[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8, fontsize=9.5)
    figure.suptitle(title)
    return figure
