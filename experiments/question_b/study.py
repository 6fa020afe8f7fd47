"""What the investigations of question (b) share."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from pyro_vae.guides.gaussian import MeanField
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.traces import Program
from pyro_vae.models import Model

SEED = 2  # of everything drawn here; the training has its own


class Vae(NamedTuple):
    """The autoencoder under study, with its device."""

    model: Model
    guide: MeanField
    device: torch.device

    def refined(self, x: Tensor, what: str | None, model: Program | None = None) -> Estimate:
        """log p(x) by 1,000 samples of the refined guide, under `model` if it is another."""
        model = model or self.model
        guide = Refined(model, self.guide)
        return log_likelihood(
            model, guide, x.to(self.device), num_samples=1000, seed=SEED, progress=what
        )


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The rank correlation; NaN where one of them is constant."""
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else np.nan


def nats(value: float, se: float | None = None) -> str:
    """A score as a figure shows it; with its error to two decimals, since that may be small."""
    text = f"{value:.1f}" if se is None else f"{value:.2f} ± {se:.2f}"
    return text.replace("-", "−")
