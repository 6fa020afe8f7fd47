"""The likeliest and the unlikeliest test images."""

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_b.study import Vae, nats
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.data import Dataset
from pyro_vae.likelihood.estimate import Estimate


def extremes(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Indices of the 10 likeliest and 10 unlikeliest images; and of 4 and 4 of every digit."""
    order = np.argsort(-scores)
    by_digit = {}
    for digit in range(10):
        own = order[labels[order] == digit]
        by_digit[digit] = np.concatenate([own[:4], own[-4:]])
    return np.concatenate([order[:10], order[-10:]]), by_digit


def likely_and_unlikely(
    vae: Vae, data: Dataset, amortised: Estimate, candidates: int
) -> tuple[dict[str, Figure], dict]:
    """The most and least likely test images by the 100-sample estimate, overall and per digit.

    And those by the refined guide, among the `candidates` that 100 samples place highest and three
    times as many that they place lowest: 100 samples err downwards, by far more than upwards.
    """
    labels = data.test_labels.numpy()
    overall, by_digit = extremes(amortised.value, labels)
    order = np.argsort(-amortised.value)
    first, last = order[:candidates], order[-3 * candidates :]
    shown = np.unique(np.concatenate([overall, first, last, *by_digit.values()]))
    again = vae.refined(data.test_images[shown], "refined log p of likely and unlikely images")
    refined = {
        int(i): (float(value), float(se))
        for i, value, se in zip(shown, again.value, again.se, strict=True)
    }
    likeliest = sorted(first, key=lambda i: -refined[int(i)][0])[:10]
    unlikeliest = sorted(last, key=lambda i: -refined[int(i)][0])[-10:]
    under = (
        "above: 100 samples of the encoder's guide; below: 1,000 of the refined guide\n"
        "(nats, ± standard error)"
    )
    figures = {
        "likely_unlikely": gallery(
            data.test_images,
            {
                "likely by\n100 samples": overall[:10],
                "likely by the\nrefined guide": likeliest,
                "unlikely by\n100 samples": overall[10:],
                "unlikely by the\nrefined guide": unlikeliest,
            },
            amortised,
            refined,
            f"The likeliest and the unlikeliest of {len(labels):,} test images\n{under}",
        ),
        "by_digit": gallery(
            data.test_images,
            {str(digit): indices for digit, indices in by_digit.items()},
            amortised,
            refined,
            f"Each digit: the 4 likeliest images (left) and the 4 unlikeliest (right)\n{under}",
        ),
    }

    def record(i: int) -> dict:
        return {
            "image": int(i),
            "digit": int(labels[i]),
            "score": float(amortised.value[i]),
            "se": float(amortised.se[i]),
            "khat": float(amortised.khat[i]),
            "refined": refined[int(i)][0],
            "refined_se": refined[int(i)][1],
        }

    digits = {
        str(digit): {
            "mean": float(amortised.value[labels == digit].mean()),
            "sd": float(amortised.value[labels == digit].std(ddof=1)),
            "likely": [record(i) for i in indices[:4]],
            "unlikely": [record(i) for i in indices[4:]],
        }
        for digit, indices in by_digit.items()
    }
    quantiles = np.quantile(amortised.value, [0.01, 0.25, 0.5, 0.75, 0.99])
    metrics = {
        "summary": amortised.summary() | {"pixels": "grey (surrogate score)"},
        "sd_over_images": float(amortised.value.std(ddof=1)),
        "quantiles_1_25_50_75_99": quantiles.tolist(),
        "likely": [record(i) for i in overall[:10]],
        "unlikely": [record(i) for i in overall[10:]],
        "likely_refined": [record(i) for i in likeliest],
        "unlikely_refined": [record(i) for i in unlikeliest],
        "unlikely_in_both": len({*overall[10:]} & {*unlikeliest}),
        # an image beyond the candidates belongs here only if 100 samples are off by more:
        # if they underrate it (likely), if they overrate it (unlikely)
        "room_beyond_candidates": {
            "likely": refined[int(likeliest[-1])][0] - float(amortised.value[first[-1]]),
            "unlikely": float(amortised.value[last[0]]) - refined[int(unlikeliest[0])][0],
        },
        "digits": digits,
        "refined_share_trusted": float(again.trusted().mean()),
    }
    return figures, metrics


def gallery(
    images: Tensor,
    rows: dict[str, np.ndarray],
    amortised: Estimate,
    refined: dict[int, tuple[float, float]],
    title: str,
) -> Figure:
    """Rows of test images under their 100-sample score, over the refined one."""
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.22 * columns + 1.3, 1.62 * len(rows) + 0.75))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row_axes, (name, indices) in zip(axes, rows.items(), strict=True):
        for ax, i in zip(row_axes, indices, strict=True):
            show_image(ax, images[i], nats(amortised.value[i], amortised.se[i]))
            ax.set_xlabel(
                nats(*refined[int(i)]), fontsize=8.5, color=COLOURS["posterior"], labelpad=2
            )
        row_axes[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8, fontsize=9.5)
    figure.suptitle(title)
    return figure
