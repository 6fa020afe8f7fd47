"""Where do the classes lie in each latent space? To look at, since t-SNE measures nothing."""

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from experiments.question_c import SEED
from experiments.question_c.autoencoders import CONTENDERS, Vaes
from pyro_vae.analysis.plots import COLOURS, short_name
from pyro_vae.analysis.sampling import posterior_moments
from pyro_vae.data.dataset import Dataset, random_positions


def figure(vaes: Vaes, data: Dataset) -> Figure:
    """Draw posterior means of test images, embedded in the plane: the two classes most mixed."""
    chosen = random_positions(data.test_images, 3000, SEED)
    x, labels = data.test_images[chosen], data.test_labels[chosen].numpy()
    means = {key: posterior_moments(seeds[0].guide, x)[0].numpy() for key, seeds in vaes.items()}
    pair = most_mixed(means["d4"], labels)
    names = [short_name(data.classes[label]) for label in pair]
    figure = Figure(figsize=(3.6 * len(vaes), 4.3))
    figure.set_layout_engine("constrained")
    for ax, key in zip(figure.subplots(1, len(vaes)), tqdm(vaes, desc="maps"), strict=True):
        places = TSNE(random_state=SEED).fit_transform(means[key])
        ax.plot(*places.T, ".", ms=2, color="0.8", rasterized=True)
        for label, name, colour in zip(pair, names, COLOURS.values(), strict=False):
            ax.plot(*places[labels == label].T, ".", ms=3.5, color=colour, label=name)
        for label in np.unique(labels):
            ax.text(
                *np.median(places[labels == label], 0),
                short_name(data.classes[label]),
                fontsize=13,
                weight="bold",
                ha="center",
                va="center",
                path_effects=[patheffects.withStroke(linewidth=3, foreground="w")],
            )
        ax.set(title=CONTENDERS[key].label, xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    figure.axes[0].legend(loc="lower left", markerscale=3)
    figure.suptitle(f"The classes that d = 4 mixes most, {names[0]} and {names[1]}: means of z")
    return figure


def most_mixed(means: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """Return the two classes of which most images have their nearest neighbour in the other.

    `means` are `(B, d)`, `labels` `(B,)`.
    """
    nearest = NearestNeighbors(n_neighbors=2).fit(means).kneighbors(means)[1][:, 1]
    count = np.zeros([labels.max() + 1] * 2, int)
    np.add.at(count, (labels, labels[nearest]), 1)
    count = np.triu(count + count.T, 1)
    first, second = np.unravel_index(count.argmax(), count.shape)
    return int(first), int(second)
