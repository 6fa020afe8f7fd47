"""How much of the digit does the latent z know, and how easily can it be read off?

The autoencoders never saw a label. A linear classifier finds the digit only where z separates the
digits by planes; nearest neighbours find it wherever like images lie together. The same two
classifiers on the pixels are the baseline.
"""

import numpy as np
from tqdm import tqdm

from experiments.question_c.autoencoders import Vaes
from experiments.question_c.spread import over_seeds
from pyro_vae.analysis.probes import linear_probe, neighbour_probe
from pyro_vae.analysis.sampling import posterior_moments
from pyro_vae.data.dataset import Dataset


def measure(vaes: Vaes, data: Dataset) -> dict:
    """Return the test accuracies from the posterior means, and from the pixels."""
    metrics: dict = {"train_images": len(data.train_labels), "test_images": len(data.test_labels)}
    both = (data.train_images, data.test_images)
    for key, seeds in vaes.items():
        trainings = []
        for vae in tqdm(seeds, desc=f"{key}: probes"):
            means = (posterior_moments(vae.guide, x)[0].double().numpy() for x in both)
            trainings.append(accuracies(*means, data))
        metrics[key] = over_seeds(trainings)
    print("pixels: probes, a few minutes")
    metrics["pixels"] = accuracies(*(x.flatten(1).numpy() for x in both), data)
    return metrics


def accuracies(train: np.ndarray, test: np.ndarray, data: Dataset) -> dict[str, float]:
    """Return the test accuracies of classifiers of features `(N, F)` and `(M, F)`."""
    y, test_y = data.train_labels.numpy(), data.test_labels.numpy()
    return {
        "linear": linear_probe(train, y, test, test_y)[0],
        "neighbours": neighbour_probe(train, y, test, test_y),
    }
