"""Scores of images: what the investigations of question (b) share.

The score of an image is its estimated log p(x), in nats, at grey pixels under a Bernoulli
likelihood: a surrogate, not a density of grey images.
"""

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor

from experiments.question_b import SEED
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.vae import Vae


def refined_log_p(vae: Vae, x: Tensor, progress: str | None = None) -> Estimate:
    """Estimate log p(x) of each image to a standard error of 0.1 nats, by the refined guide."""
    return vae.log_likelihood(x, se=0.1, seed=SEED, progress=progress)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the rank correlation of `a` and `b`; NaN if either is constant."""
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else np.nan


def nats(value: float) -> str:
    """Return a score as text for a figure."""
    return f"{value:.1f}".replace("-", "−")
