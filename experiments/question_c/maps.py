"""Where do the classes lie in each latent space? To look at, since t-SNE measures nothing."""

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from tqdm import tqdm

from experiments.question_c import SEED
from experiments.question_c.autoencoders import CONTENDERS, Vaes
from pyro_vae.analysis.plots import class_colours, short_name
from pyro_vae.analysis.sampling import posterior_moments
from pyro_vae.data.dataset import Dataset, random_positions


def figure(vaes: Vaes, data: Dataset) -> Figure:
    """Draw posterior means of test images, embedded in the plane, coloured by class."""
    chosen = random_positions(data.test_images, 3000, SEED)
    x, labels = data.test_images[chosen], data.test_labels[chosen].numpy()
    colours, names = class_colours(len(data.classes)), [short_name(n) for n in data.classes]
    size = 15 if max(map(len, names)) < 4 else 9
    figure = Figure(figsize=(5.0 * len(vaes), 5.3))
    figure.set_layout_engine("constrained")
    for ax, key in zip(figure.subplots(1, len(vaes)), tqdm(vaes, desc="maps"), strict=True):
        means, _ = posterior_moments(vaes[key][0].guide, x)
        places = TSNE(random_state=SEED).fit_transform(means.numpy())
        ax.scatter(*places.T, s=5, c=[colours[y] for y in labels], alpha=0.7, rasterized=True)
        for label in np.unique(labels):
            ax.text(
                *np.median(places[labels == label], 0),
                names[label],
                fontsize=size,
                weight="bold",
                ha="center",
                va="center",
                path_effects=[patheffects.withStroke(linewidth=3, foreground="w")],
            )
        ax.set(title=CONTENDERS[key].label, xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    figure.suptitle(
        f"Posterior means of {len(labels):,} test images, embedded by t-SNE (first trainings; "
        "neighbours mean something, distances and sizes do not)"
    )
    return figure
