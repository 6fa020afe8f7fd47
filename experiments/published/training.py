"""Trained models of the table: from their checkpoints, or trained now, with exact resume."""

import time
from pathlib import Path

import torch

from experiments.published import CELLS
from experiments.published.networks import Published
from experiments.record import provenance
from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError
from pyro_vae.storage.files import check_folder, lock_file
from pyro_vae.training.fit import fit
from pyro_vae.training.objectives import objective
from pyro_vae.vae import Vae

# one cycle in place of the paper's eight stages of falling rates
OPTIONS = {"batch_size": 100, "learning_rate": 3e-3, "schedule": "one_cycle", "seed": 0}


def trained(data: Dataset, cell: str, epochs: int, folder: Path, resume: bool) -> Vae:
    """Return the model of a cell after `epochs` epochs; its checkpoint is in `folder`.

    Images are binarised anew each time that they are seen, as in the paper.
    """
    path = folder / f"{cell}.pt"
    x = data.train_images.flatten(1)
    torch.manual_seed(OPTIONS["seed"])
    programs = Published(x.mean(0))
    vae = Vae(programs.model, programs.guide, example=x[:1])
    wanted = {"dataset": data.name, "epochs": epochs, "particles": CELLS[cell].particles, **OPTIONS}
    if resume and path.exists():
        found = Vae.load(path, model=programs.model, guide=programs.guide)
        if any(found.config.get(name) != value for name, value in wanted.items()):
            raise InputError(f"{path} is of another training: delete it, or leave out --resume")
        return found
    check_folder(folder)
    state_path, times = folder / f"{cell}.training.pt", [time.perf_counter()]
    print(f"{cell}: training for {epochs} epochs")
    with lock_file(path, state_path):
        if not resume:
            state_path.unlink(missing_ok=True)
        history = fit(
            programs.model,
            programs.guide,
            (x,),
            epochs=epochs,
            elbo=objective("elbo" if cell == "VAE" else "iwae", CELLS[cell].particles),
            transform=torch.bernoulli,
            on_epoch=lambda record: times.append(time.perf_counter()),
            state_path=state_path,
            resume=resume,
            must_match={"dataset": data.name, "cell": cell},
            **OPTIONS,
        )
        seconds = (
            torch.tensor(times, dtype=torch.float64).diff().median()
            if len(times) > 1
            else torch.nan
        )
        vae.config = wanted | {
            "history": [record["train_elbo"] for record in history],
            "seconds_an_epoch": float(seconds),
            "provenance": provenance(),
        }
        vae.save(path)
    return vae
