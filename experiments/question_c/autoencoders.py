"""The three autoencoders: several trainings of each, and log p(x) of test images under all.

Each step changes one thing. From d4 to d20 it is the number of latent dimensions, from d20 to
PyTorch's example the networks.
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
from torch import Tensor

from experiments.cli import TRAINING
from experiments.question_c import SEED
from experiments.trained import Spec, load_or_train
from pyro_vae.analysis.sampling import decode, encode_style
from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError, check_seed
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.vae import Vae


class Contender(NamedTuple):
    """What is trained: a name for figures, d, and the networks."""

    label: str
    latent_dim: int
    architecture: str


CONTENDERS = {
    "d4": Contender("d = 4", 4, "appendix"),
    "d20": Contender("d = 20", 20, "appendix"),
    "example": Contender("PyTorch's example", 20, "dense"),
}
PAIRS = (("d20", "d4"), ("example", "d20"), ("example", "d4"))


class Trained(NamedTuple):
    """One trained autoencoder, its scores of test images, and the seconds that these took."""

    vae: Vae
    bounds: Estimate  # of all test images, by 100 samples of the guide
    refined: Estimate  # of the chosen test images, to 0.1 nats, by the refined guide
    seconds: dict[str, float]  # for the scores of 1,000 images


Vaes = dict[str, list[Vae]]  # of each contender, one for each training seed
Trainings = dict[str, list[Trained]]


def load_all(args: argparse.Namespace, data: Dataset) -> Vaes:
    """Load or train each contender `args.seeds` times, with the seeds from `args.seed` on."""
    check_seed(args.seed + args.seeds - 1)
    vaes: Vaes = {key: [] for key in CONTENDERS}
    for seed in range(args.seed, args.seed + args.seeds):
        for key, contender in CONTENDERS.items():
            name = key if seed == TRAINING["seed"] else f"{key}_seed{seed}"
            spec = Spec(contender.latent_dim, contender.architecture)
            vaes[key].append(load_or_train(args, data, spec, name, seed=seed))
            check_same_training(vaes)  # before hours go into the next
    return vaes


def check_same_training(vaes: Vaes) -> None:
    """Raise InputError unless all contenders were trained with the same options."""
    first = vaes["d4"][0].config
    for key, seeds in vaes.items():
        for vae in seeds:
            for option in ("epochs", "batch_size", "learning_rate", "schedule"):
                if vae.config.get(option) != first.get(option):
                    raise InputError(
                        f"{key} was trained with {option}={vae.config.get(option)} and d4 with "
                        f"{first.get(option)}: name another --results, or add --train to train "
                        "all alike in this one"
                    )


def score_all(vaes: Vaes, data: Dataset, chosen: np.ndarray, first_seed: int) -> Trainings:
    """Score the test images by every autoencoder; by the refined guide only the `chosen`."""
    x = data.test_images[chosen]
    return {
        key: [score(vae, data, x, f"{key}, seed {first_seed + i}") for i, vae in enumerate(seeds)]
        for key, seeds in vaes.items()
    }


def score(vae: Vae, data: Dataset, x: Tensor, name: str) -> Trained:
    """Score all test images by the guide, and the images `x` by the refined guide."""
    start = time.perf_counter()
    bounds = vae.log_likelihood(
        data.test_images, seed=SEED, progress=f"{name}: 100 samples of the guide"
    )
    between = time.perf_counter()
    refined = refined_log_p(vae, x, f"{name}: refined log p")
    seconds = {
        "seconds_for_1000_log_p_by_100": (between - start) / len(data.test_images) * 1000,
        "seconds_for_1000_log_p_refined": (time.perf_counter() - between) / len(x) * 1000,
    }
    return Trained(vae, bounds, refined, seconds)


def refined_log_p(vae: Vae, x: Tensor, progress: str) -> Estimate:
    """Estimate log p(x) to a standard error of 0.1 nats, by the refined guide."""
    return vae.log_likelihood(x, se=0.1, seed=SEED, progress=progress)


def reconstructions(vae: Vae, x: Tensor) -> Tensor:
    """Return the mean image at one draw of the guide, for each image of `x`."""
    z = encode_style(vae.model, vae.guide, x, num_samples=1, seed=SEED)[0]
    return decode(vae.model, z)
