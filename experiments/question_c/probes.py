"""What the latents know of the labels."""

import numpy as np
from matplotlib.axes import Axes
from tqdm import tqdm

from experiments.question_c.autoencoders import Vaes
from experiments.question_c.spread import COLOURS, REAL, over_seeds
from pyro_vae.analysis.probes import linear_probe, neighbour_probe
from pyro_vae.analysis.sampling import posterior_moments
from pyro_vae.data import Dataset


def usefulness(vaes: Vaes, data: Dataset) -> dict:
    """What the posterior means tell of the labels, read off on the test images."""
    y, other_y = data.train_labels.numpy(), data.test_labels.numpy()
    metrics: dict = {"train_images": len(y), "test_images": len(other_y)}
    for key, seeds in vaes.items():
        found = []
        for vae in tqdm(seeds, desc=f"{key}: probes"):
            z, other_z = (
                posterior_moments(vae.guide, x)[0].double().numpy()
                for x in (data.train_images, data.test_images)
            )
            found.append(
                {
                    "linear": linear_probe(z, y, other_z, other_y)[0],
                    "neighbours": neighbour_probe(z, y, other_z, other_y),
                }
            )
        metrics[key] = over_seeds(found)
    pixels, unseen = (images.flatten(1).numpy() for images in (data.train_images, data.test_images))
    print("pixels: probes, a few minutes")
    metrics["pixels"] = {
        "linear": linear_probe(pixels, y, unseen, other_y)[0],
        "neighbours": neighbour_probe(pixels, y, unseen, other_y),
    }
    return metrics


def seeds_bar(ax: Axes, place: float, seeds: np.ndarray | list[float], colour: str) -> None:
    """The mean over seeds as a bar, and each as a dot."""
    ax.bar(place, np.mean(seeds), 0.2, color=colour, alpha=0.85)
    ax.plot([place] * len(seeds), seeds, "ko", ms=3)


def usefulness_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """Errors of readers of the label that see the latents alone, or the pixels."""
    kinds = {"neighbours": "10 nearest\nneighbours", "linear": "logistic\nregression"}
    for offset, key in zip((-0.22, 0, 0.22), labels, strict=True):
        for place, kind in enumerate(kinds):
            seeds = np.array(found[key][kind]["seeds"])
            seeds_bar(ax, place + offset, 1 - seeds, COLOURS[key])
    pixels = [1 - found["pixels"][kind] for kind in kinds]
    ends = np.array([-0.36, 0.36])
    ax.hlines(pixels, *(np.arange(2) + ends[:, None]), color=REAL, ls="--", label="from the pixels")
    ax.set_xticks(range(2), kinds.values())
    ax.set(ylabel="test images misread", title="What z knows of the digit")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(fontsize=8.5)
