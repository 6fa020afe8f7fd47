"""Training of what is compared."""

import argparse
import json
import time
from pathlib import Path

from torch import nn

from pyro_vae.data import Dataset
from pyro_vae.models import Model
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.training.fit import fit


def train(
    model: Model,
    guide: nn.Module,
    data: Dataset,
    args: argparse.Namespace,
    settings: dict,
    name: str,
    folder: Path,
) -> dict:
    """Train the guide, and the model unless it is frozen.

    The seconds of a training that is resumed are those in the metrics of the run that made it, and
    null where there are none of just that training.
    """
    if not any(w.requires_grad for part in (model, guide) for w in part.parameters()):
        return {"seconds": 0.0, "history": []}
    print(f"{name}: training for {args.guide_epochs} epochs")
    state_path = folder / f"{name}.training.pt"
    resumed = args.resume and state_path.exists()
    start = time.perf_counter()
    history = fit(
        model,
        guide,
        (data.train_images.to(args.device),),
        (data.test_images.to(args.device),),
        epochs=args.guide_epochs,
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        # so that what differs between guides is not lost in the noise of a constant rate
        schedule="cosine" if args.frozen_decoder else "constant",
        seed=settings["seed"],
        batch_parts=settings["batch_parts"],
        state_path=state_path,
        resume=args.resume,
        must_match={
            "dataset": data.name,
            "guide": name,
            "precision": args.guide_precision,
            "generator": fingerprint(model) if args.frozen_decoder else "new",
        },
    )
    seconds = time.perf_counter() - start
    if resumed:
        seconds = known_seconds(folder, name, history)
    return {"seconds": seconds, "history": history}


def known_seconds(folder: Path, name: str, history: list[dict]) -> float | None:
    """The seconds that a guide took for this training, from the metrics in `folder`."""
    try:
        row = json.loads((folder / "metrics.json").read_text())["rows"][name]
        return row["seconds"]["train"] if row["history"] == history else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
