"""Does an autoencoder remove noise from an image, or does the noise mislead it?

No autoencoder was trained on noisy images. A narrow latent space can draw little but digits, and
may clean more; a wide one follows the image more closely, noise included. An independent
classifier reads the noisy image and its reconstruction.
"""

import numpy as np
import torch
from torch import Tensor

from experiments.question_c import SEED
from experiments.question_c.autoencoders import Vaes, reconstructions
from experiments.question_c.spread import over_seeds
from pyro_vae.analysis.interventions import gaussian_noise, salt_and_pepper
from pyro_vae.analysis.judges import Classifier, class_probabilities

NOISES = {
    "Gaussian noise": (gaussian_noise, [0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0]),
    "salt and pepper": (salt_and_pepper, [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5]),
}


def measure(vaes: Vaes, x: Tensor, labels: np.ndarray, classifier: Classifier) -> dict:
    """Return the share read as the true digit, of noisy images and of their reconstructions."""

    def accuracy(images: Tensor) -> float:
        return float((class_probabilities(classifier, images).argmax(1) == labels).mean())

    metrics: dict = {}
    for name, (add_noise, levels) in NOISES.items():
        rng = torch.Generator().manual_seed(SEED)
        noisy = [add_noise(x, level, rng) for level in levels]
        metrics[name] = {
            "level": levels,
            "no autoencoder": [accuracy(images) for images in noisy],
            **{
                key: over_seeds(
                    [[accuracy(reconstructions(vae, images)) for images in noisy] for vae in seeds]
                )
                for key, seeds in vaes.items()
            },
        }
    return metrics
