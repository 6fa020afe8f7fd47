"""Training of every guide that is compared, and the seconds it takes."""

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from experiments.compare_guides.candidates import Field
from pyro_vae.data.dataset import Dataset
from pyro_vae.programs import has_own_numbers
from pyro_vae.training.fit import fit
from pyro_vae.training.objectives import objective

# what the guides' trainings have in common with the autoencoder's
OPTIONS = ("batch_size", "learning_rate", "schedule", "seed", "batch_parts")


class Training(NamedTuple):
    """What `fit` returned, and the seconds it took, where they are known."""

    seconds: float | None
    history: list[dict]


# how a guide with numbers of its own for each image is fitted to the images that are compared on
OF_EACH_IMAGE = {"epochs": 500, "learning_rate": 0.03, "schedule": "cosine"}


def train_all(
    field: Field, args: argparse.Namespace, data: Dataset, folder: Path, x: Tensor
) -> dict[str, Training]:
    """Train every guide by `--objective`, and its model unless that is frozen.

    A guide with numbers of its own for each image is fitted to the images `x`, all at once. A guide
    without weights is left out. Each training state lies in `folder`. The seconds of a
    training that is resumed are those in the metrics of the run that made it, and None if it
    holds no such training.
    """
    train, test = ((x.to(args.device),) for x in (data.train_images, data.test_images))
    trainings = {}
    for name, (model, guide) in field.candidates.items():
        if not any(w.requires_grad for part in (model, guide) for w in part.parameters()):
            continue
        options = {option: field.settings[option] for option in OPTIONS}
        options["epochs"] = args.guide_epochs
        images = (train, test)
        if has_own_numbers(guide):
            options |= OF_EACH_IMAGE | {"batch_size": len(x), "batch_parts": 1}
            images = ((x,),)
        print(f"{name}: training for {options['epochs']} epochs of {len(images[0][0]):,} images")
        state_path = folder / f"{name}.training.pt"
        resumed = args.resume and state_path.exists()
        start = time.perf_counter()
        history = fit(
            model,
            guide,
            *images,
            elbo=objective(args.objective, args.particles),
            state_path=state_path,
            resume=args.resume,
            must_match={
                "dataset": data.name,
                "guide": name,
                "precision": args.guide_precision,
                "generator": field.generator,
            },
            **options,
        )
        seconds = time.perf_counter() - start
        trainings[name] = Training(
            known_seconds(folder, name, history) if resumed else seconds, history
        )
    return trainings


def known_seconds(folder: Path, name: str, history: list[dict]) -> float | None:
    """Return the seconds of the training that has this history, from the metrics in `folder`."""
    try:
        row = json.loads((folder / "metrics.json").read_text("utf-8"))["rows"][name]
        return row["seconds"]["train"] if row["history"] == history else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
