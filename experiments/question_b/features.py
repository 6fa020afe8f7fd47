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
from pyro_vae.analysis.plots import COLOURS, short_name
from pyro_vae.analysis.sampling import posterior_mean
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.vae import Vae

UNITS = {"entropy floor": "nats", "width": "pixels", "nearest training image": "distance"}
SHOWN = ("nearest training image", "entropy floor", "width")


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
    """Draw the score of 2,000 images against three features, and medians of ten equal groups."""
    figure = Figure(figsize=(10, 3.9))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(SHOWN), sharey=True)
    groups = {"0.55": np.ones(len(score), bool)}
    title = "The score against three features (black: medians)"
    if data.classes:
        labels = data.test_labels.numpy()
        means = [
            score[labels == c].mean() if (labels == c).any() else -np.inf
            for c in range(len(data.classes))
        ]
        best = int(np.argmax(means))
        groups = {"0.55": labels != best, COLOURS["guide"]: labels == best}
        title = f"Orange: the {data.noun} {short_name(data.classes[best])}, the likeliest. {title}"
    few = np.zeros(len(score), bool)
    few[random_positions(score, 2000, SEED)] = True
    for ax, name in zip(axes, SHOWN, strict=True):
        value = features[name]
        for colour, chosen in groups.items():
            of_group = chosen & few
            ax.plot(value[of_group], score[of_group], ".", ms=2.5, alpha=0.5, color=colour)
        edges = np.unique(np.quantile(value, np.linspace(0, 1, 11)))
        group = np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(edges) - 2)
        filled = [g for g in np.unique(group) if (group == g).sum() >= 20]
        ax.plot(*[[np.median(v[group == g]) for g in filled] for v in (value, score)], "ko-", ms=4)
        unit = f", {UNITS[name]}" if name in UNITS else ""
        ax.set(xlabel=name + unit, ylim=np.quantile(score, [0.001, 0.999]))
        ax.set_xlim(*np.quantile(value, [0.0005, 0.9995]))
    axes[0].set_ylabel("score, nats")
    figure.suptitle(title)
    return figure
