"""How many nats does each autoencoder spend on z, and how much of the image is lost for them?

The ELBO is minus the sum of the two, so that it cannot tell a model that says little and loses
much from one that says much and loses little. The curve of a generator shows the best trade at
every rate, without its encoder; the encoder's point lies above the curve by what it wastes.
"""

from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from experiments.question_c import SEED
from experiments.question_c.autoencoders import CONTENDERS, Vaes
from experiments.question_c.spread import COLOURS, over_seeds
from pyro_vae.analysis.rate_distortion import guide_rate_distortion, model_rate_distortion
from pyro_vae.likelihood.psis import passes

BETAS = (0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0)
DRAWS = 500  # for each point of a curve


def measure(vaes: Vaes, x: Tensor, few: int) -> dict:
    """Return the point of each guide over the images `x`, and curves over the first `few` of them.

    The curves are of the first trainings; the guides' points are given over these images too.
    """
    metrics: dict = {"beta": list(BETAS), "images": len(x), "images_of_curves": few}
    for key, seeds in vaes.items():
        first = seeds[0]
        (x,) = first.here(x)
        points = [guide_rate_distortion(vae.model, vae.guide, x, seed=SEED) for vae in seeds]
        curve = [
            model_rate_distortion(
                first.model, first.guide, x[:few], beta=beta, num_samples=DRAWS, seed=SEED
            )
            for beta in tqdm(BETAS, desc=f"{key}: rate and distortion")
        ]
        metrics[key] = {
            "guide": mean_point(points, len(x)),
            "guide_beside_curve": mean_point(points, few),
            "rate": [float(point.rate.mean()) for point in curve],
            "distortion": [float(point.distortion.mean()) for point in curve],
            "share_trusted": [float(passes(point.khat, DRAWS).mean()) for point in curve],
        }
    return metrics


def mean_point(points: list, count: int) -> dict:
    """Return rate and distortion over the first `count` images, over the trainings."""
    return over_seeds(
        [
            {"rate": float(rate[:count].mean()), "distortion": float(distortion[:count].mean())}
            for rate, distortion in points
        ]
    )


def figure(metrics: dict) -> Figure:
    """Draw rate against distortion as beta moves; a large dot at beta = 1."""
    figure = Figure(figsize=(7.5, 4.6))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    posterior = metrics["beta"].index(1.0)
    for key, contender in CONTENDERS.items():
        rate, distortion = metrics[key]["rate"], metrics[key]["distortion"]
        ax.plot(rate, distortion, "o-", ms=3, lw=1.5, color=COLOURS[key], label=contender.label)
        ax.plot(rate[posterior], distortion[posterior], "o", ms=8, color=COLOURS[key])
        guide = metrics[key]["guide_beside_curve"]
        points = zip(guide["rate"]["seeds"], guide["distortion"]["seeds"], strict=True)
        for training, point in enumerate(points):
            alpha = 1 if training == 0 else 0.35  # the curve is the first's
            ax.plot(*point, "x", ms=7, mew=1.8, color=COLOURS[key], alpha=alpha)
    ax.plot([], [], "o", ms=8, color="0.4", label="the posterior")
    ax.plot([], [], "x", ms=7, mew=1.8, color="0.4", label="the guide, each training")
    ax.set(
        xlabel="rate: KL(q || prior), nats",
        ylabel="distortion: −E log p(x | z), nats",
        title=f"What each generator makes of more nats of z, {metrics['images_of_curves']} images",
    )
    ax.legend()
    return figure
