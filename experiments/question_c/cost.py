"""What does each autoencoder cost: parameters, and seconds of training, samples and scores?"""

import copy
import time

import torch
from tqdm import tqdm

from experiments.question_c.autoencoders import Trainings
from pyro_vae.analysis.sampling import decode
from pyro_vae.data.dataset import Dataset
from pyro_vae.training.fit import fit


def measure(trained: Trainings, data: Dataset) -> dict:
    """Return parameters and seconds of each first training.

    Training is timed here, on copies, since the history of a resumed training would not tell.
    """
    metrics = {}
    few = data.train_images[:10_000]
    for key, (first, *_) in tqdm(trained.items(), desc="cost"):
        vae = first.vae
        model, guide = copy.deepcopy((vae.model, vae.guide))
        start = time.perf_counter()
        fit(
            model,
            guide,
            vae.here(few),
            epochs=1,
            batch_size=vae.config["batch_size"],
            progress=False,
        )
        epoch = (time.perf_counter() - start) * len(data.train_images) / len(few)
        start = time.perf_counter()
        decode(vae.model, torch.randn(10_000, vae.latent_dim))
        metrics[key] = {
            "generator_parameters": sum(w.numel() for w in vae.model.parameters()),
            "encoder_parameters": sum(w.numel() for w in vae.guide.parameters()),
            "seconds_an_epoch": epoch,
            "seconds_for_10000_samples": time.perf_counter() - start,
            **first.seconds,
        }
    return metrics
