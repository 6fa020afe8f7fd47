"""Which images does Bayes' rule misread, and how sure is it of them?"""

import numpy as np
from matplotlib.figure import Figure

from pyro_vae.analysis.plots import name_of_image, short_name, show_image
from pyro_vae.data.dataset import Dataset


def measure(log_p: np.ndarray, labels: np.ndarray, of_classifier: np.ndarray) -> list[dict]:
    """List the images that `log_p`, `(B, C)`, misreads, the surest first."""
    lead, read_as = leads(log_p), log_p.argmax(1)
    wrong = np.flatnonzero(read_as != labels)
    return [
        {
            "image": int(i),
            "digit": int(labels[i]),
            "read_as": int(read_as[i]),
            "lead_nats": float(lead[i]),
            "classifier": int(of_classifier[i]),
        }
        for i in wrong[np.argsort(-lead[wrong])]
    ]


def leads(log_p: np.ndarray) -> np.ndarray:
    """Return by how many nats the best label of each image leads the second, `(B,)`."""
    return np.diff(np.sort(log_p, 1)[:, -2:])[:, 0]


def figure(data: Dataset, mistakes: list[dict], most: int = 12) -> Figure:
    """Show the `most` surest mistakes of Bayes' rule on the test images."""
    count, mistakes, columns = len(mistakes), mistakes[:most], 6
    names = [short_name(name) for name in data.classes]
    gap = " " if max(map(len, names)) < 4 else "\n"
    rows = max(1, -(-len(mistakes) // columns))
    figure = Figure(figsize=(1.5 * columns, 2.05 * rows + 0.8))
    figure.set_layout_engine("constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[len(mistakes) :]:
        ax.axis("off")
    for ax, wrong in zip(axes, mistakes, strict=False):
        label, read_as = name_of_image(data, wrong["digit"]), names[wrong["read_as"]]
        show_image(ax, data.test_images[wrong["image"]], f"{label},{gap}read as {read_as}")
        ax.set_xlabel(
            f"by {wrong['lead_nats']:.1f} nats\nclassifier: {names[wrong['classifier']]}",
            fontsize=8,
            labelpad=2,
        )
    figure.suptitle(
        f"Bayes' rule by the refined guide misreads {count} test images: the surest {len(mistakes)}"
    )
    return figure
