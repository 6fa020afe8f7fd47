"""Does the ranking depend on how the likelihood treats grey pixels?

The appendix's Bernoulli likelihood of grey pixels is a surrogate score, not a density. So the same
images are also scored as black and white draws, and by the continuous Bernoulli density. Scores
under two likelihoods are never compared with one another.
"""

import numpy as np
import torch
from torch import Tensor

from experiments.question_c import SEED
from experiments.question_c.autoencoders import PAIRS, Trainings, refined_log_p
from experiments.question_c.spread import over_seeds, over_trainings
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.models import ContinuousBernoulli, Model
from pyro_vae.vae import Vae


def measure(trained: Trainings, x: Tensor) -> dict:
    """Return log p under three likelihoods of the pixels, each apart.

    `x` are the first of the images that `trained` has scored.
    """
    binarised = torch.bernoulli(x, generator=torch.Generator().manual_seed(SEED))
    estimates: dict = {"grey": {}, "binarised": {}, "continuous": {}}
    for key, runs in trained.items():
        estimates["grey"][key] = [run.refined.subset(slice(len(x))) for run in runs]
        estimates["binarised"][key] = [
            refined_log_p(run.vae, binarised, f"{key}: binarised") for run in runs
        ]
        estimates["continuous"][key] = [
            refined_log_p(with_density(run.vae), x, f"{key}: continuous Bernoulli") for run in runs
        ]
    return {likelihood: compare(of_each) for likelihood, of_each in estimates.items()}


def with_density(vae: Vae) -> Vae:
    """Return the same autoencoder with continuous Bernoulli pixels."""
    return Vae(Model(vae.model.decoder, ContinuousBernoulli, vae.model.prior), vae.guide)


def compare(estimates: dict[str, list[Estimate]]) -> dict:
    """Return the contenders' means under one likelihood, and the differences of each pair."""
    metrics: dict = {
        key: over_seeds(
            [
                {"log_p": float(run.value.mean()), "share_trusted": float(run.trusted().mean())}
                for run in runs
            ]
        )
        for key, runs in estimates.items()
    }
    log_p = {key: [run.value for run in runs] for key, runs in estimates.items()}
    for a, b in PAIRS:
        difference = np.mean(log_p[a], 0) - np.mean(log_p[b], 0)
        metrics[f"{a} - {b}"] = mean_interval(difference) | {
            "over_trainings": over_trainings(log_p[a], log_p[b])
        }
    return metrics
