"""All comparisons at a glance: one figure, and one table for the terminal."""

import numpy as np
from matplotlib.figure import Figure

from experiments.question_c import (
    interpolation,
    noise,
    overfitting,
    probes,
    rate_distortion,
    samples,
    scores,
)
from experiments.question_c.autoencoders import CONTENDERS
from experiments.question_c.spread import COLOURS

# Rows of the table, and where their numbers are in the metrics of a contender.
ROWS = {
    "ELBO": ("scores", "elbo"),
    "IWAE-100": ("scores", "iwae_100"),
    "log p(x), refined": ("scores", "log_p"),
    "rate": ("rate_distortion", "guide", "rate"),
    "distortion": ("rate_distortion", "guide", "distortion"),
    "active units": ("units", "active"),
    "samples: Frechet distance": ("samples", "prior", "frechet"),
    "samples: precision": ("samples", "prior", "precision"),
    "samples: recall": ("samples", "prior", "recall"),
    "samples: read with > 95%": ("samples", "prior", "share_confident"),
    "reconstructions: Frechet": ("samples", "reconstructions", "frechet"),
    "neighbours read z": ("usefulness", "neighbours"),
    "a line reads z": ("usefulness", "linear"),
}


def as_text(metrics: dict) -> str:
    """Return the table: means over the trainings, and their standard deviations in brackets."""
    lines = [f"{'':<28}" + "".join(f"{c.label:>24}" for c in CONTENDERS.values())]
    for label, (investigation, *path) in ROWS.items():
        cells = []
        for key in CONTENDERS:
            value = metrics[investigation][key]
            for step in path:
                value = value[step]
            spread = "" if np.isnan(value["sd"]) else f" ({value['sd']:.3f})"
            cells.append(f"{value['mean']:.3f}{spread}")
        lines.append(f"{label:<28}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def figure(metrics: dict) -> Figure:
    """Draw every comparison of the contenders, each with its spread over the trainings."""
    figure = Figure(figsize=(16.5, 8.6))
    figure.set_layout_engine("constrained")
    above, below = figure.subplots(2, 4)
    scores.bounds_panel(above[0], metrics["scores"])
    scores.by_class_panel(above[1], metrics["scores"]["pairs"])
    rate_distortion.panel(above[2], metrics["rate_distortion"])
    overfitting.panel(above[3], metrics["overfitting"])
    noise.panel(below[0], metrics["robustness"]["noise"]["Gaussian noise"])
    interpolation.panel(below[1], metrics["robustness"]["interpolation"])
    samples.panel(below[2], metrics["samples"])
    probes.panel(below[3], metrics["usefulness"])
    handles = [
        above[0].plot([], [], "s", ms=9, color=COLOURS[key], label=contender.label)[0]
        for key, contender in CONTENDERS.items()
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=11)
    seeds = len(metrics["scores"]["d4"]["log_p"]["seeds"])
    trainings = f"{seeds} training{'s' * (seeds > 1)} of each"
    figure.suptitle(
        f"4 against 20 latent dimensions, and PyTorch's example: {trainings} "
        "(dots, or ± 1 standard deviation), held-out test images"
    )
    return figure
