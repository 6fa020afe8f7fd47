"""Put autoencoders, a few images and the page's own code into one HTML file."""

import base64
import json
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_vae.accuracy import log_likelihood
from pyro_vae.analysis.rendering import device_of
from pyro_vae.analysis.sampling import posterior_moments
from pyro_vae.errors import InputError, checked, describe
from pyro_vae.explorer.layers import IMAGE, Weights, described
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.psis import khat_threshold
from pyro_vae.programs import Program
from pyro_vae.progress import Progress
from pyro_vae.storage.files import atomic_write

SHOWN = 20  # images that can be chosen; the others are dots of the scatter alone
SEED = 31


@checked
@torch.no_grad()
def write_page(
    autoencoders: dict[str, tuple[Program, Program]],
    path: str | Path,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    classes: tuple[str, ...] = tuple("0123456789"),
    progress: Progress = None,
) -> None:
    """Write a page that explores some autoencoders: model and guide, by their names.

    Args:
        images: `(N, 1, 28, 28)`: the first 20 can be chosen on the page, and their refined
            log p(x) is computed now; all are dots of its scatter. By default none.
        labels: of these images, `(N,)`.
        classes: the names of the labels.

    Raises InputError for an autoencoder that the page can't run.
    """
    if not autoencoders:
        raise InputError("autoencoders must hold at least one")
    if any(not isinstance(pair, tuple) or len(pair) != 2 for pair in autoencoders.values()):
        raise InputError("autoencoders must be pairs of a model and a guide, by their names")
    if labels is not None and images is None:
        raise InputError("labels are of images: give images too")
    if images is not None and images.shape[1:] != IMAGE:
        raise InputError(f"images must be (N, 1, 28, 28), not {tuple(images.shape)}")
    if labels is not None:
        _check_labels(labels, images, len(classes))
    weights = Weights()
    models = []
    for name, (model, guide) in autoencoders.items():
        found = described(model, guide, name, list(classes), weights)
        if images is not None:
            rows = [images] if labels is None or not found["classes"] else [images, labels]
            if found["classes"] and len(rows) == 1:
                raise InputError(f"labels of the images must be given too: {name} takes them")
            found |= _of_images(model, guide, rows, weights, progress)
        models.append(found)
    content = {"models": models, "classes": list(classes), "images": None, "labels": []}
    if images is not None:
        grey = (images[:SHOWN].flatten(1) * 255).round().to(torch.uint8).cpu().numpy()
        content["images"] = base64.b64encode(grey.tobytes()).decode()
        content["labels"] = [] if labels is None else labels[: len(images)].tolist()
    content["weights"] = base64.b64encode(weights.bytes).decode()
    with atomic_write(path) as partial:
        partial.write_text(_filled(content), "utf-8", newline="\n")


def _of_images(
    model: Program, guide: Program, rows: list[Tensor], weights: Weights, progress: Progress
) -> dict:
    """Return the styles of all images, and the refined log p(x) of those that are shown."""
    device = device_of(model, rows[0])
    rows = [part.to(device) for part in rows]
    means, _ = posterior_moments(guide, *rows)
    options = {"se": 0.1, "seed": SEED, "progress": progress}
    few = [part[:SHOWN] for part in rows]
    refined = log_likelihood(model, Refined(model, guide), *few, **options)
    styles = model.prior.style(means.to(device), *rows[1:])  # z itself under N(0, I)
    spread = styles.var(0) if len(means) > 1 else torch.ones(means.shape[1])
    return {
        "styles": weights.add(styles),
        "order": spread.argsort(descending=True).tolist(),  # of styles: the most used first
        "refined": [
            {"value": float(value), "se": float(se), "ess": float(ess), "khat": _json(khat)}
            | {"limit": khat_threshold(int(count)), "trusted": bool(trusted)}
            for value, se, ess, khat, count, trusted in zip(
                refined.value,
                refined.se,
                refined.ess,
                refined.khat,
                np.broadcast_to(refined.num_samples, refined.value.shape),
                refined.trusted(),
                strict=True,
            )
        ],
    }


def _check_labels(labels: Tensor, images: Tensor | None, classes: int) -> None:
    """Raise InputError unless there is a label for each image, from 0 to `classes` - 1."""
    count = 0 if images is None else len(images)
    whole = labels.dtype in (torch.int64, torch.int32, torch.uint8) and labels.shape == (count,)
    if not whole or not ((labels >= 0) & (labels < classes)).all():
        raise InputError(
            f"labels must be whole numbers below {classes}, the number of classes, one for each of "
            f"{count} images, not {_what(labels)}"
        )


def _what(labels: Tensor) -> str:
    """Describe labels that are refused: by their largest where only that is wrong."""
    whole = labels.dim() == 1 and not labels.is_floating_point() and len(labels)
    return f"{describe(labels)} up to {labels.max()}" if whole else describe(labels)


def _json(khat: float) -> float | str:
    return float(khat) if np.isfinite(khat) else str(float(khat))  # "inf" or "-inf"


def _filled(content: dict) -> str:
    """Return the template with the code and the content in their places."""
    folder = resources.files("pyro_vae.explorer")

    def read(name: str) -> str:
        return (folder / name).read_text("utf-8")

    text = read("page.html")
    # "<" would end the script that holds it
    data = json.dumps(content, allow_nan=False).replace("<", "\\u003c")
    parts = {
        "/*style*/": read("style.css"),
        "/*core*/": read("networks.js") + read("inference.js"),
        "/*views*/": read("plots.js") + read("trust.js") + read("views.js"),
        '"content"': data,
    }
    for place, part in parts.items():
        text = text.replace(place, part)
    return text
