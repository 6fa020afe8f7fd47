"""Do the autoencoders know their training images better than test images, and which part does?

log p(x) is the generator's alone: where it is higher for training images, the generator overfits.
The gap from the ELBO to log p(x) is the encoder's. Training and test images are different images,
and one set may be easier by itself. So log p(x) is also taken above the best score that any model
could give the grey levels, and differences between two models are free of it altogether.
"""

import numpy as np

from experiments.question_c import SEED
from experiments.question_c.autoencoders import PAIRS, Trainings, refined_log_p
from pyro_vae.analysis.features import entropy_floor
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.likelihood.intervals import welch_interval


def measure(trained: Trainings, data: Dataset, chosen: np.ndarray) -> dict:
    """Compare training images with the `chosen` test images; of each the mean over trainings."""
    count = max(2, len(chosen) // 2)
    picked = random_positions(data.train_images, count, SEED)
    x = data.train_images[picked]
    best, test_best = -entropy_floor(x), -entropy_floor(data.test_images[chosen])
    metrics: dict = {
        "train_images": count,
        "test_images": len(chosen),
        # how much easier the training images are by themselves, for any model
        "floor": train_against_test(best, test_best),
    }
    scores: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for key, runs in trained.items():
        bounds = [run.vae.log_likelihood(x, seed=SEED) for run in runs]
        refined = [refined_log_p(run.vae, x, f"{key}: training images") for run in runs]
        log_p = np.mean([estimate.value for estimate in refined], 0)
        test_log_p = np.mean([run.refined.value for run in runs], 0)
        elbo = np.mean([estimate.elbo for estimate in bounds], 0)
        test_elbo = np.mean([run.bounds.elbo[chosen] for run in runs], 0)
        scores[key] = (log_p, test_log_p)
        metrics[key] = {
            "log_p": train_against_test(log_p, test_log_p),
            "above_floor": train_against_test(log_p - best, test_log_p - test_best),
            "elbo_gap": train_against_test(log_p - elbo, test_log_p - test_elbo),
            "share_trusted": float(np.mean([estimate.trusted() for estimate in refined])),
        }
    for a, b in PAIRS:
        (train_a, test_a), (train_b, test_b) = scores[a], scores[b]
        metrics[f"{a} - {b}"] = train_against_test(train_a - train_b, test_a - test_b)
    return metrics


def train_against_test(train: np.ndarray, test: np.ndarray) -> dict:
    """Return the means of two sets of images, and their difference with its 95% interval."""
    return {
        "train": float(train.mean()),
        "test": float(test.mean()),
        "train_minus_test": welch_interval(train, test),
    }
