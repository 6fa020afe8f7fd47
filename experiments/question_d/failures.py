"""Failures made on purpose, which the measures must catch."""

import numpy as np
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_d import SEED
from experiments.question_d.classification import accuracy_of, table_of
from experiments.question_d.measures import measures
from experiments.question_d.styles import draw_styles, every_digit
from pyro_vae.analysis.classification import (
    class_log_likelihoods,
    label_mutual_information,
)
from pyro_vae.analysis.judges import Classifier
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.analysis.sampling import decode_style
from pyro_vae.data import Dataset
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.training.fit import fit
from pyro_vae.vae import BUILD, Vae


class Blind(MeanField):
    """A guide that is not given the label: q(z | x)."""

    def q(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        return super().q(x, torch.zeros_like(labels[0]))  # the same for every image


def failures(
    data: Dataset,
    classifier: Classifier,
    config: dict,
    epochs: int,
    count: int,
    device: torch.device,
) -> tuple[Figure, dict]:
    """Trained as `config` says but for `epochs` epochs: right, and wrong in one or two ways."""
    right = {name: config[name] for name in BUILD}
    options = {
        name: config[name] for name in ("batch_size", "learning_rate", "schedule", "batch_parts")
    }
    mixed = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(SEED))
    appendix = {"architecture": "appendix", "prior": "standard"}
    kinds = {
        "as it should be": (right, None, data.train_labels),
        "guide without y": (right, Blind, data.train_labels),
        "prior N(0, I)": (right | {"prior": "standard"}, None, data.train_labels),
        "prior N(0, I), y one-hot": (right | appendix, None, data.train_labels),
        "prior N(0, I), y one-hot, guide without y": (right | appendix, Blind, data.train_labels),
        "labels at random": (right, None, data.train_labels[mixed]),
    }
    metrics, sets = {}, {}
    for name, (kind, guide_type, labels) in kinds.items():
        torch.manual_seed(SEED)
        vae = Vae.build(**kind)
        if guide_type is not None:
            vae.guide = guide_type(vae.model, precision=kind["precision"])
        vae.to(device)
        print(f"{name}: training for {epochs} epochs")
        rows = (data.train_images.to(device), labels.to(device))
        fit(vae.model, vae.guide, rows, epochs=epochs, seed=SEED, **options)
        some = data.test_images[: max(20, count // 5)].to(device)
        found = class_log_likelihoods(
            vae.model, vae.guide, some, num_samples=100, seed=SEED, progress=name
        )
        own = data.test_labels[: len(some)].numpy()
        metrics[name] = measures(vae, data, classifier, count) | {
            "bayes": accuracy_of(table_of(found), own),
            "information": label_mutual_information(table_of(found), own),
        }
        styles = every_digit(draw_styles(vae, 2))
        sets[name] = decode_style(vae.model, *styles).unflatten(0, (2, 10))
    return failures_figure(sets, metrics), {"epochs": epochs, **metrics}


def failures_figure(sets: dict[str, Tensor], metrics: dict) -> Figure:
    """Two styles over ten digits from each model, and the measures that tell them apart."""
    figure = Figure(figsize=(13.2, 2.35 * len(sets) + 0.7))
    figure.set_layout_engine("constrained")
    for part, (name, rows) in zip(figure.subfigures(len(sets), 1), sets.items(), strict=True):
        left, right = part.subfigures(1, 2, width_ratios=[2.1, 1])
        for axes, row in zip(left.subplots(*rows.shape[:2]), rows, strict=True):
            for digit, (ax, image) in enumerate(zip(axes, row, strict=True)):
                show_image(ax, image, f"y = {digit}")
        left.suptitle(name, fontsize=11.5)
        ax = right.subplots()
        found = metrics[name]
        bars = {
            "image read as its y": found["generated"]["mean"],
            "Bayes' rule right": found["bayes"]["accuracy"]["mean"],
            "slant shared (correlation)": found["consistency"]["slant"]["shared"],
            "y read from style": found["probes"]["best"],
        }
        colours = [COLOURS["posterior"]] * 3 + [COLOURS["guide"]]
        place = np.arange(4)[::-1]
        ax.barh(place, list(bars.values()), 0.6, color=colours)
        for y, value in zip(place, bars.values(), strict=True):
            ax.text(max(value, 0.1) + 0.015, y, f"{value:.0%}", va="center", fontsize=9)
        ax.axvline(found["probes"]["largest_class"], color="0.3", lw=0.8, ls="--")
        ax.set_yticks(place, bars)
        ax.set(xlim=(0, 1.2))
        ax.set_xticks([0, 0.5, 1], ["0", "50%", "100%"])
    figure.suptitle(
        "Made to fail: what the pictures and the measures show\n"
        "(blue bars should be long, the orange one at chance, dashed; "
        "a slant that all digits share proves nothing alone)"
    )
    return figure
