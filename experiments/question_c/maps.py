"""Maps of the latents."""

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure


def maps_figure(maps: dict[str, np.ndarray], labels: np.ndarray) -> Figure:
    """Posterior means of test images, embedded in the plane (t-SNE), coloured by digit."""
    figure = Figure(figsize=(5.0 * len(maps), 5.3))
    figure.set_layout_engine("constrained")
    for ax, (name, places) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
        ax.scatter(*places.T, s=5, c=labels, cmap="tab10", alpha=0.7, rasterized=True)
        for digit in np.unique(labels):
            ax.text(
                *np.median(places[labels == digit], 0),
                str(digit),
                fontsize=15,
                weight="bold",
                ha="center",
                va="center",
                path_effects=[patheffects.withStroke(linewidth=3, foreground="w")],
            )
        ax.set(title=name, xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    figure.suptitle(
        f"Posterior means of {len(labels):,} test images, embedded by t-SNE (first trainings; "
        "neighbours mean something, distances and sizes do not)"
    )
    return figure
