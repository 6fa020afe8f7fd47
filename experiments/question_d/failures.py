"""Do the measures catch a model that is broken?

Measures that everything passes show nothing. So the model is trained again as it should be, and
with one or two faults: the guide is not given y, the prior is N(0, I) for every label, y is only
set beside z and x (one-hot), the labels are drawn at random. Each is measured alike.
"""

import numpy as np
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_d import SEED, disentanglement
from experiments.question_d.classification import accuracy_of, label_log_p
from experiments.question_d.styles import IN_A_ROW, draw_styles, every_class, title_of
from pyro_vae.analysis.classification import label_mutual_information
from pyro_vae.analysis.judges import Classifier
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.analysis.sampling import decode_style
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.training.fit import fit
from pyro_vae.vae import BUILD, Vae


class Blind(MeanField):
    """A guide that is not given the label: q(z | x)."""

    def q(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        """Return q(z | x) of each image: the encoder is told the same label for all of them."""
        return super().q(x, torch.zeros_like(labels[0]))


def measure(
    data: Dataset,
    classifier: Classifier,
    config: dict,
    epochs: int,
    count: int,
    device: torch.device,
) -> tuple[dict, dict[str, Tensor]]:
    """Train each model for `epochs` epochs, otherwise as `config` says, and measure it.

    Also returns two styles on ten classes from each model, `(2, 10, 1, 28, 28)`, by its name.
    """
    options = {
        name: config[name] for name in ("batch_size", "learning_rate", "schedule", "batch_parts")
    }
    chosen = random_positions(data.test_images, max(20, count // 5), SEED)
    x, y = data.test_images[chosen], data.test_labels[chosen].numpy()
    metrics, sets = {}, {}
    for name, (build, blind, labels) in _designs(data, config).items():
        torch.manual_seed(SEED)
        vae = Vae.build(**build)
        if blind:
            vae.guide = Blind(vae.model, precision=build["precision"])
        vae.to(device)
        print(f"{name}: training for {epochs} epochs")
        train = (data.train_images.to(device), labels.to(device))
        fit(vae.model, vae.guide, train, epochs=epochs, seed=SEED, **options)
        log_p = label_log_p(vae, x, 100, name).value
        metrics[name] = disentanglement.measure(vae, data, classifier, count) | {
            "bayes": accuracy_of(log_p, y),
            "information": label_mutual_information(log_p, y),
        }
        styles = draw_styles(vae, 2)
        pairs = every_class(styles, min(IN_A_ROW, len(data.classes)))
        sets[name] = decode_style(vae.model, *pairs).unflatten(0, (2, -1))
    return {"epochs": epochs, **metrics}, sets


def _designs(data: Dataset, config: dict) -> dict[str, tuple[dict, bool, Tensor]]:
    """Return what each model is built from, whether its guide is blind to y, and its labels."""
    right = {name: config[name] for name in BUILD}
    standard = right | {"prior": "standard"}
    one_hot = standard | {"architecture": "appendix"}
    labels = data.train_labels
    mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SEED))
    return {
        "as it should be": (right, False, labels),
        "guide without y": (right, True, labels),
        "prior N(0, I)": (standard, False, labels),
        "prior N(0, I), y one-hot": (one_hot, False, labels),
        "prior N(0, I), y one-hot, guide without y": (one_hot, True, labels),
        "labels at random": (right, False, labels[mixed]),
    }


def figure(data: Dataset, metrics: dict, sets: dict[str, Tensor]) -> Figure:
    """Show two styles over ten classes from each model, and the measures that tell them apart."""
    figure = Figure(figsize=(13.2, 2.35 * len(sets) + 0.7))
    figure.set_layout_engine("constrained")
    for part, (name, images) in zip(figure.subfigures(len(sets), 1), sets.items(), strict=True):
        left, right = part.subfigures(1, 2, width_ratios=[2.1, 1])
        for axes, row in zip(left.subplots(*images.shape[:2]), images, strict=True):
            for label, (ax, image) in enumerate(zip(axes, row, strict=True)):
                show_image(ax, image, title_of(data, label))
        left.suptitle(name, fontsize=11.5)
        ax = right.subplots()
        result = metrics[name]
        bars = {
            "image read as its y": result["generated"]["mean"],
            "Bayes' rule right": result["bayes"]["accuracy"]["mean"],
            "slant shared (correlation)": result["consistency"]["slant"]["shared"],
            "y read from style": result["probes"]["best"],
        }
        colours = [COLOURS["posterior"]] * 3 + [COLOURS["guide"]]
        place = np.arange(4)[::-1]
        ax.barh(place, list(bars.values()), 0.6, color=colours)
        for height, value in zip(place, bars.values(), strict=True):
            ax.text(max(value, 0.1) + 0.015, height, f"{value:.0%}", va="center", fontsize=9)
        ax.axvline(result["probes"]["largest_class"], color="0.3", lw=0.8, ls="--")
        ax.set_yticks(place, bars)
        ax.set(xlim=(0, 1.2))
        ax.set_xticks([0, 0.5, 1], ["0", "50%", "100%"])
    figure.suptitle(
        "Made to fail: what the pictures and the measures show\n"
        "(blue bars should be long, the orange one at chance, dashed; "
        "a slant that all classes share proves nothing alone)"
    )
    return figure
