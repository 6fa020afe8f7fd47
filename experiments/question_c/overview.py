"""All comparisons at a glance: a table for the terminal."""

import numpy as np

from experiments.question_c.autoencoders import CONTENDERS

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
