"""Does the straight line between two latents pass through classes, and only through the two?

A line in latent space that stays in digits shows that neighbouring latents draw similar images. On
the way from one digit to another the classifier may read a third, or nothing for sure. The mix of
the pixels is the baseline that needs no autoencoder.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from experiments.question_c.autoencoders import Vaes
from experiments.question_c.spread import over_seeds
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.sampling import decode, posterior_moments

STEPS = 11


def measure(vaes: Vaes, x: Tensor, labels: np.ndarray, classifier: Classifier) -> dict:
    """Return what the classifier reads on the way from each image to the next of another digit."""
    first = np.array([i for i, (a, b) in enumerate(pairwise(labels)) if a != b])

    def read(images: Tensor) -> dict:
        """Read images `(STEPS, B, 1, 28, 28)`."""
        p = class_probabilities(classifier, images.flatten(0, 1)).reshape(STEPS, len(first), 10)
        digit = p.argmax(-1)
        third = (digit != labels[first]) & (digit != labels[first + 1])
        return {
            "confidence": p.max(-1).mean(1).tolist(),
            "third_digit": third.mean(1).tolist(),
            "least_confidence": float(p.max(-1).min(0).mean()),
        }

    metrics: dict = {
        "t": np.linspace(0, 1, STEPS).tolist(),
        "pairs": len(first),
        "mix of the pixels": read(line(x[first], x[first + 1])),
    }
    for key, seeds in vaes.items():
        readings = []
        for vae in seeds:
            z, _ = posterior_moments(vae.guide, x)
            images = decode(vae.model, line(z[first], z[first + 1]).flatten(0, 1))
            readings.append(read(images.unflatten(0, (STEPS, -1))))
        metrics[key] = over_seeds(readings)
    return metrics


def line(start: Tensor, end: Tensor) -> Tensor:
    """Return the points of the straight lines between two batches, `(STEPS, *)`."""
    t = torch.linspace(0, 1, STEPS)
    return torch.lerp(start, end, t.view(-1, *[1] * start.dim()))
