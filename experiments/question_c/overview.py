"""Every comparison on one page."""

import numpy as np
from matplotlib.figure import Figure

from experiments.question_c.autoencoders import CONTENDERS
from experiments.question_c.noise import interpolation_panel, noise_panel
from experiments.question_c.overfitting import overfitting_panel
from experiments.question_c.probes import usefulness_panel
from experiments.question_c.rate_distortion import rate_distortion_panel
from experiments.question_c.samples import samples_panel
from experiments.question_c.scores import classes_panel, scores_panel
from experiments.question_c.spread import COLOURS


def as_text(metrics: dict) -> str:
    """The table for a terminal: mean over seeds, and their standard deviation in brackets."""
    rows = {
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
    lines = [f"{'':<28}" + "".join(f"{c.label:>24}" for c in CONTENDERS.values())]
    for label, (part, *path) in rows.items():
        cells = []
        for key in CONTENDERS:
            value = metrics[part][key]
            for step in path:
                value = value[step]
            spread = "" if np.isnan(value["sd"]) else f" ({value['sd']:.3f})"
            cells.append(f"{value['mean']:.3f}{spread}")
        lines.append(f"{label:<28}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def overview_figure(metrics: dict, labels: dict[str, str]) -> Figure:
    """One page: every comparison of the contenders, each with its spread over training seeds."""
    figure = Figure(figsize=(16.5, 8.6))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(2, 4)
    scores_panel(axes[0, 0], metrics["scores"], labels)
    classes_panel(axes[0, 1], metrics["scores"]["pairs"], labels)
    rate_distortion_panel(axes[0, 2], metrics["rate_distortion"], labels)
    overfitting_panel(axes[0, 3], metrics["overfitting"], labels)
    noise_panel(axes[1, 0], metrics["robustness"]["noise"]["Gaussian noise"], labels)
    interpolation_panel(axes[1, 1], metrics["robustness"]["interpolation"], labels)
    samples_panel(axes[1, 2], metrics["samples"], labels)
    usefulness_panel(axes[1, 3], metrics["usefulness"], labels)
    handles = [
        axes[0, 0].plot([], [], "s", ms=9, color=COLOURS[key], label=label)[0]
        for key, label in labels.items()
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=11)
    seeds = len(metrics["scores"]["d4"]["log_p"]["seeds"])
    trainings = f"{seeds} training{'s' * (seeds > 1)} of each"
    figure.suptitle(
        f"4 against 20 latent dimensions, and PyTorch's example: {trainings} "
        "(dots, or ± 1 standard deviation), held-out test images"
    )
    return figure
