"""What does the score look like against each feature of an image?

Most features can be seen on the image itself; three belong to the data or to the model: the
distance to the nearest training image, the latent's distance from 0, the reconstruction error.
`explained` measures what each of them explains.
"""

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.question_b import SEED
from pyro_vae.analysis.features import FEATURES, nearest_distance
from pyro_vae.analysis.plots import class_colours, short_name
from pyro_vae.analysis.sampling import posterior_mean
from pyro_vae.data.dataset import Dataset
from pyro_vae.vae import Vae

# A feature that is not here has no unit.
UNITS = {
    "ink": "pixels' worth of white",
    "entropy floor": "nats",
    "stroke width": "pixels",
    "slant": "columns to the right for each row up",
    "height": "pixels",
    "width": "pixels",
    "off centre": "pixels",
    "nearest training image": "distance of grey levels",
    "reconstruction error": "squared grey levels",
}


def measure(vae: Vae, data: Dataset) -> tuple[dict[str, np.ndarray], float]:
    """Return each feature of the test images, `(B,)`, and the ESS behind the posterior mean.

    The ESS is the median over the images of the effective sample size of 100 weighted samples.
    """
    x = data.test_images
    features = {name: function(x) for name, function in tqdm(FEATURES.items(), desc="features")}
    if data.classes:
        features["class"] = data.test_labels.numpy().astype(float)
    features["nearest training image"] = nearest_distance(x, data.train_images)
    mean, ess = posterior_mean(vae.model, vae.guide, *vae.here(x), seed=SEED)
    features["latent's distance from 0"] = mean.norm(dim=1).double().cpu().numpy()
    rebuilt = vae.decode(mean).cpu()
    features["reconstruction error"] = (x - rebuilt).square().sum((1, 2, 3)).double().numpy()
    return features, float(ess.median())


def figure(features: dict[str, np.ndarray], score: np.ndarray, data: Dataset) -> Figure:
    """Draw the score against each feature: all images, coloured by class, and medians.

    A feature with few values has a median at each of them, another in ten equal groups.
    """
    names = [name for name in features if name != "class"]
    figure = Figure(figsize=(13, 8.4))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(3, 4, sharey=True)
    low, high = np.quantile(score, [0.001, 0.999])
    colours = class_colours(max(1, len(data.classes)))
    of_image = [colours[label] for label in data.test_labels.clamp(min=0).tolist()]
    for ax, name in zip(axes.flat, names, strict=True):
        value = features[name]
        discrete = len(np.unique(value)) < 40
        jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(value))
        spread = value + jitter * discrete  # or the points would lie on one another
        ax.scatter(spread, score, s=1.5, c=of_image, alpha=0.5, rasterized=True)
        if discrete:
            group = value
        else:
            edges = np.unique(np.quantile(value, np.linspace(0, 1, 11)))
            group = np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(edges) - 2)
        filled = [g for g in np.unique(group) if (group == g).sum() >= 20]
        medians = [[np.median(v[group == g]) for g in filled] for v in (value, score)]
        ax.plot(*medians, "ko-", ms=3.5, lw=1.4)
        unit = f", {UNITS[name]}" if name in UNITS else ""
        ax.set(xlabel=name + unit, ylim=(low, high))
        ax.set_xlim(*np.quantile(spread, [0.0005, 0.9995]))
    for ax in axes[:, 0]:
        ax.set_ylabel("score, nats")
    dots = [
        figure.axes[0].scatter([], [], s=25, color=colour, label=short_name(name))
        for colour, name in zip(colours, data.classes, strict=False)
    ]
    if dots:
        columns = 10 if max(map(len, data.classes)) > 3 else 13
        figure.legend(handles=dots, loc="outside lower left", ncols=columns, title=data.noun)
    figure.suptitle(
        "The score against each feature, but for the extreme 0.1%; black: medians of ten equal "
        "groups, or of each value"
    )
    return figure
