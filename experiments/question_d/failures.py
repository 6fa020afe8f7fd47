"""What is each part of the design worth, and do the measures catch a model that is broken?

Measures that everything passes show nothing. So the model is trained again as it should be, with
one or two parts left out (the guide is not given y, the prior is N(0, I) for every label, y is only
set beside z and x, one-hot, the labels' layers start apart), and with labels drawn at random. All
are trained for the same epochs, several times, and measured alike.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.kept import Kept, made_once
from experiments.question_c.spread import over_seeds
from experiments.question_d import SEED, disentanglement
from experiments.question_d.classification import accuracy_of, label_log_p
from experiments.question_d.styles import IN_A_ROW, draw_styles, every_class, title_of
from pyro_vae.analysis.judges import Classifier
from pyro_vae.analysis.plots import show_image
from pyro_vae.analysis.sampling import decode_style
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.networks.labels import LabelLinear
from pyro_vae.storage.files import check_folder
from pyro_vae.training.fit import fit
from pyro_vae.training.stopping import TrainingError
from pyro_vae.vae import BUILD, Vae

MEASURES = ("generated", "style_read", "bayes", "slant", "stroke width", "elbo")
SHOWN = (
    "as it should be",
    "labels' layers start apart",
    "prior N(0, I), y one-hot",
    "labels at random",
)


class Blind(MeanField):
    """A guide that is not given the label: q(z | x)."""

    def q(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """Return q(z | x) of each image: the encoder is told the same label for all of them."""
        return super().q(x, torch.zeros_like(labels[0]))


class Design(NamedTuple):
    """What a model is built from, and what is done to it."""

    build: dict  # the arguments of Vae.build
    blind: bool = False  # the guide is not given y
    apart: bool = False  # the labels' layers start from different weights
    mixed: bool = False  # the labels are drawn at random


def designs(config: dict) -> dict[str, Design]:
    """Return the designs by name; `config` is that of the model as it should be."""
    right = {name: config[name] for name in BUILD}
    standard = right | {"prior": "standard"}
    one_hot = standard | {"architecture": "appendix"}
    return {
        "as it should be": Design(right),
        "guide without y": Design(right, blind=True),
        "labels' layers start apart": Design(right, apart=True),
        "prior N(0, I)": Design(standard),
        "prior N(0, I), y one-hot": Design(one_hot),
        "prior N(0, I), y one-hot, guide without y": Design(one_hot, blind=True),
        "labels at random": Design(right, mixed=True),
    }


def measure(
    data: Dataset,
    classifier: Classifier,
    config: dict,
    args: argparse.Namespace,
    folder: Path,
    device: torch.device,
) -> tuple[dict, dict[str, Tensor]]:
    """Train each design `failure_seeds` times for `failure_epochs`, otherwise as `config` says.

    Returns the mean and spread of each measure over the trainings, and how many `diverged`, which
    have no measures; and a style on ten classes from the first training of each design of SHOWN,
    `(10, 1, 28, 28)`. Each training is kept in `folder`/failures.
    """
    folder = folder / "failures"
    check_folder(folder)
    options = {
        name: config[name] for name in ("batch_size", "learning_rate", "schedule", "batch_parts")
    }
    options["epochs"] = args.failure_epochs
    settings = {"dataset": data.name, "count": 2 * args.images, **options}
    kept = made_once(folder, settings, args.resume, {"measures", "images"})
    shapes = {
        "measures": (len(MEASURES),),
        "images": (min(IN_A_ROW, len(data.classes)), 1, 28, 28),
    }

    def once(name: str, design: Design, seed: int, state_path: Path) -> Kept:
        print(f"{name}, training {seed}: {options['epochs']} epochs")
        state = {"state_path": state_path, "resume": args.resume}
        try:
            vae = trained(design, data, device, seed=seed, **state, **options)
            found = measured(vae, data, classifier, settings["count"], name)
        except TrainingError:
            print(f"{name}, training {seed}: diverged, and is left out")
            found = {key: torch.full(shape, -torch.inf) for key, shape in shapes.items()}
        state_path.unlink(missing_ok=True)
        return found

    metrics, sets = {}, {}
    for number, (name, design) in enumerate(designs(config).items()):
        trainings = []
        for seed in range(args.failure_seeds):
            key = f"{number}_{seed}"
            state_path = folder / f"{key}.state.training.pt"
            found = kept(key, partial(once, name, design, seed, state_path), shapes)
            if not found["measures"].isneginf().all():  # a correlation may be NaN
                trainings.append(dict(zip(MEASURES, found["measures"].tolist(), strict=True)))
                if name in SHOWN:
                    sets.setdefault(name, found["images"])
        metrics[name] = over_seeds(trainings) if trainings else {}
        metrics[name]["diverged"] = args.failure_seeds - len(trainings)
    return {"epochs": args.failure_epochs, **metrics}, sets


def trained(
    design: Design, data: Dataset, device: torch.device, seed: int, **options: object
) -> Vae:
    """Train a design once, by `fit` with the `options`."""
    torch.manual_seed(seed)
    vae = Vae.build(**design.build)
    if design.blind:
        vae.guide = Blind(vae.model, precision=design.build["precision"])
    if design.apart:
        start_apart(vae)
    vae.to(device)
    labels = data.train_labels
    if design.mixed:
        labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    train = (data.train_images.to(device), labels.to(device))
    fit(vae.model, vae.guide, train, seed=seed, **options)
    return vae


def measured(vae: Vae, data: Dataset, classifier: Classifier, count: int, name: str) -> Kept:
    """Return the `measures` of a design, in the order of MEASURES, and some `images`."""
    chosen = random_positions(data.test_images, max(20, count // 5), SEED)
    x, y = data.test_images[chosen], data.test_labels[chosen]
    found = disentanglement.measure(vae, data, classifier, count)
    elbo = vae.log_likelihood(data.test_images, data.test_labels, num_samples=1, seed=SEED).elbo
    measures = {
        "generated": found["generated"]["mean"],
        "style_read": found["probes"]["best"],
        "bayes": accuracy_of(label_log_p(vae, x, 100, name).value, y.numpy())["accuracy"]["mean"],
        "slant": found["consistency"]["slant"]["shared"],
        "stroke width": found["consistency"]["stroke width"]["shared"],
        "elbo": float(elbo.mean()),
    }
    pairs = every_class(draw_styles(vae, 1), min(IN_A_ROW, len(data.classes)))
    images = decode_style(vae.model, *pairs).cpu()
    return {"measures": torch.tensor([measures[m] for m in MEASURES]), "images": images}


def start_apart(vae: Vae) -> None:
    """Draw the first weights of each label's own layers anew, independently."""
    for module in (*vae.model.modules(), *vae.guide.modules()):
        if isinstance(module, LabelLinear):
            outputs, classes, inputs = module.weight.shape
            with torch.no_grad():
                for label in range(classes):
                    fresh = torch.nn.Linear(inputs, outputs)
                    module.weight[:, label], module.bias[:, label] = fresh.weight, fresh.bias


def figure(data: Dataset, metrics: dict, sets: dict[str, Tensor]) -> Figure:
    """Show a style over ten classes from each design of `sets`, and three measures as numbers."""
    columns = max(len(images) for images in sets.values())
    figure = Figure(figsize=(0.95 * columns + 3.2, 1.3 * len(sets) + 0.7))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(sets), columns, squeeze=False)
    for axes, (name, images) in zip(grid, sets.items(), strict=True):
        for label, (ax, image) in enumerate(zip(axes, images, strict=True)):
            show_image(ax, image, title_of(data, label) if axes is grid[0] else "")
        read, told, slant = (metrics[name][m]["mean"] for m in ("generated", "style_read", "slant"))
        axes[0].set_ylabel(
            f"{name}\nread as y: {read:.0%}\ny read from style: {told:.0%}\n"
            f"slant shared: {slant:.2f}",
            rotation=0, ha="right", va="center", labelpad=8,
        )  # fmt: skip
    figure.suptitle(f"Which designs keep y, and share a style? {metrics['epochs']} epochs each")
    return figure
