"""Rate and distortion."""

from matplotlib.axes import Axes
from torch import Tensor
from tqdm import tqdm

from experiments.question_c.autoencoders import SEED, Vaes
from experiments.question_c.spread import COLOURS, over_seeds
from pyro_vae.analysis.rate_distortion import guide_rate_distortion, model_rate_distortion
from pyro_vae.likelihood.psis import khat_threshold

BETAS = (0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0)


def rate_distortion(vaes: Vaes, x: Tensor, few: int) -> dict:
    """The point of each guide over images `x`, and over the first `few` of them each generator's
    curve (first trainings) and the guides' points.
    """
    metrics: dict = {"beta": list(BETAS), "images": len(x), "images_of_curves": few}
    draws = 500  # for each point of a curve
    for key, seeds in vaes.items():
        x = seeds[0].here(x)
        points = [guide_rate_distortion(vae.model, vae.guide, x, seed=SEED) for vae in seeds]
        guides, beside = (
            over_seeds(
                [
                    {"rate": float(r[:n].mean()), "distortion": float(d[:n].mean())}
                    for r, d in points
                ]
            )
            for n in (len(x), few)
        )
        curve = [
            model_rate_distortion(
                seeds[0].model, seeds[0].guide, x[:few], beta=beta, num_samples=draws, seed=SEED
            )
            for beta in tqdm(BETAS, desc=f"{key}: rate and distortion")
        ]
        metrics[key] = {
            "guide": guides,
            "guide_beside_curve": beside,
            "rate": [float(point.rate.mean()) for point in curve],
            "distortion": [float(point.distortion.mean()) for point in curve],
            "share_trusted": [
                float((point.khat < khat_threshold(draws)).mean()) for point in curve
            ],
        }
    return metrics


def rate_distortion_panel(ax: Axes, found: dict, labels: dict[str, str]) -> None:
    """KL against reconstruction error as beta moves; a large dot at beta = 1."""
    one = found["beta"].index(1.0)
    for key in labels:
        rate, distortion = found[key]["rate"], found[key]["distortion"]
        ax.plot(rate, distortion, "-", lw=1.5, color=COLOURS[key])
        ax.plot(rate, distortion, "o", ms=3, color=COLOURS[key])
        ax.plot(rate[one], distortion[one], "o", ms=8, color=COLOURS[key])
        guide = found[key]["guide_beside_curve"]
        points = zip(guide["rate"]["seeds"], guide["distortion"]["seeds"], strict=True)
        for training, point in enumerate(points):
            alpha = 1 if training == 0 else 0.35  # the curve is the first's
            ax.plot(*point, "x", ms=7, mew=1.8, color=COLOURS[key], alpha=alpha)
    ax.plot([], [], "-", color="0.4", label="the generator's curve")
    ax.plot([], [], "o", ms=8, color="0.4", label="its posterior (slope −1)")
    ax.plot([], [], "x", ms=7, mew=1.8, color="0.4", label="its guide (faint: other trainings)")
    ax.set(
        xlabel="rate: KL(q || prior), nats",
        ylabel="distortion: −E log p(x|z), nats",
        title=f"Rate and distortion, {found['images_of_curves']} images\n(curves: first trainings)",
    )
    ax.legend(fontsize=8.5)
