"""Three likelihoods of the pixels."""

import numpy as np
import torch
from torch import Tensor

from experiments.question_c.autoencoders import PAIRS, SEED, Vaes, refined
from experiments.question_c.spread import over_seeds, over_trainings
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.models import ContinuousBernoulli, Model


def other_pixels(vaes: Vaes, x: Tensor) -> dict:
    """log p under three likelihoods of the pixels, each apart, of the mean over the trainings.

    `x` are the first of the images whose grey scores are known.
    """
    binarised = torch.bernoulli(x, generator=torch.Generator().manual_seed(SEED))
    found: dict = {kind: {} for kind in ("grey", "binarised", "continuous")}
    for key, seeds in vaes.items():
        found["grey"][key] = [vae.refined.of(slice(len(x))) for vae in seeds]
        found["binarised"][key] = [refined(vae, binarised, f"{key}: binarised") for vae in seeds]
        continuous = [
            Model(vae.model.decoder, ContinuousBernoulli, vae.model.prior) for vae in seeds
        ]
        found["continuous"][key] = [
            refined(vae, x, f"{key}: continuous Bernoulli", model)
            for vae, model in zip(seeds, continuous, strict=True)
        ]
    metrics: dict = {}
    for kind, estimates in found.items():
        metrics[kind] = {
            key: over_seeds(
                [
                    {"log_p": float(one.value.mean()), "share_trusted": float(one.trusted().mean())}
                    for one in seeds
                ]
            )
            for key, seeds in estimates.items()
        }
        means = {key: np.mean([one.value for one in seeds], 0) for key, seeds in estimates.items()}
        for one, other in PAIRS:
            metrics[kind][f"{one} - {other}"] = mean_interval(means[one] - means[other]) | {
                "over_trainings": over_trainings(
                    *([run.value for run in estimates[key]] for key in (one, other))
                )
            }
    return metrics
