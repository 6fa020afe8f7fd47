"""Parameters and seconds."""

import copy
import time

import torch
from tqdm import tqdm

from experiments.question_c.autoencoders import Vaes
from pyro_vae.analysis.sampling import mean_images
from pyro_vae.data import Dataset
from pyro_vae.training.fit import fit


def cost(vaes: Vaes, data: Dataset, seconds: dict[str, dict[str, float]]) -> dict:
    """Parameters and seconds; training is timed here, on copies, since a record may be resumed."""
    metrics = {}
    few = data.train_images[:10_000]
    for key, (vae, *_) in tqdm(vaes.items(), desc="cost"):
        model, guide = copy.deepcopy((vae.model, vae.guide))
        rows, batch_size = (vae.here(few),), vae.config["batch_size"]
        start = time.perf_counter()
        fit(model, guide, rows, epochs=1, batch_size=batch_size, progress=False)
        epoch = (time.perf_counter() - start) * len(data.train_images) / len(few)
        start = time.perf_counter()
        mean_images(vae.model, torch.randn(10_000, vae.model.decoder.latent_dim))
        metrics[key] = {
            "generator_parameters": sum(w.numel() for w in vae.model.parameters()),
            "encoder_parameters": sum(w.numel() for w in vae.guide.parameters()),
            "seconds_an_epoch": epoch,
            "seconds_for_10000_samples": time.perf_counter() - start,
            **seconds[key],
        }
    return metrics
