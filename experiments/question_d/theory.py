"""At d = 2: weights under the exact posterior are constant."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_d import SEED
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.analysis.sampling import posterior_samples
from pyro_vae.data import Dataset
from pyro_vae.guides.exact import ExactGuide
from pyro_vae.likelihood.estimate import estimate
from pyro_vae.likelihood.importance import log_weights
from pyro_vae.likelihood.quadrature import GridPosterior, integrate_plane
from pyro_vae.vae import Vae

GRID = {"points": 201, "half_width": 9.0}  # trained for little, a posterior lies far from its prior


def theory(vae: Vae, data: Dataset, count: int = 4) -> tuple[Figure, dict]:
    """At d = 2: weights under the exact posterior are constant, and equal p(x | y)."""
    print("theory: weights under the exact posterior, by quadrature at d = 2")
    x, y = data.test_images[:count], data.test_labels[:count]
    batch = vae.here(x, y)
    plane = integrate_plane(vae.model, *batch, **GRID)
    log_p = plane.log_evidence.numpy()
    exact = ExactGuide(vae.model, **GRID)
    perfect = log_weights(vae.model, exact, *batch, num_samples=1000, seed=SEED)
    coarse = ExactGuide(vae.model, **GRID | {"points": GRID["points"] // 2 + 1})
    coarse = log_weights(vae.model, coarse, *batch, num_samples=1000, seed=SEED)
    guided = log_weights(vae.model, vae.guide, *batch, num_samples=1000, seed=SEED)
    drawn, ess = posterior_samples(
        vae.model, vae.refined().guide, *batch, num_draws=400, num_samples=5000, seed=SEED
    )
    mean, sd = plane.moments()
    # of the mean of 400 draws, in standard errors of it
    apart = ((drawn.double().mean(0) - mean) / (sd / np.sqrt(len(drawn)))).abs()
    metrics = {
        "images": count,
        "log_p_by_quadrature": log_p.tolist(),
        "log_p_by_perfect_samples": estimate(perfect).value.tolist(),
        "largest_difference_of_the_two": float(np.abs(estimate(perfect).value - log_p).max()),
        "sd_of_log_weights": {
            "perfect": perfect.std(0).tolist(),
            "perfect_twice_the_step": coarse.std(0).tolist(),
            "guide": guided.std(0).tolist(),
        },
        "largest_error_of_one_perfect_weight": float((perfect - plane.log_evidence).abs().max()),
        "resampled_effective_sample_size_of_5000": ess.tolist(),
        "resampled_mean_off_in_se": apart.tolist(),
        "resampled_sd_to_exact": (drawn.double().std(0) / sd).tolist(),
    }
    spread = torch.stack([mean - 4.5 * sd, mean + 4.5 * sd], -1)  # (B, 2, 2)
    figure = theory_figure(x, y, plane, spread, drawn, perfect, guided)
    return figure, metrics


def theory_figure(
    x: Tensor,
    y: Tensor,
    plane: GridPosterior,
    spread: Tensor,
    drawn: Tensor,
    perfect: Tensor,
    guided: Tensor,
) -> Figure:
    """Draws by resampling over the exact posterior, and the log weights of exact and guide.

    `spread`, `(B, 2, 2)`, are the ends of the axes.
    """
    figure = Figure(figsize=(10.8, 2.55 * len(x) + 0.9))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(x), 3, width_ratios=[0.55, 1, 1.5], squeeze=False)
    points = round(len(plane.z) ** 0.5)
    excess = guided - plane.log_evidence
    ends = float(excess.quantile(0.005)), float(excess.max())
    bins = np.linspace(ends[0], max(ends[1], 1), 80)
    for b, (left, middle, right) in enumerate(axes):
        show_image(left, x[b], f"x, y = {int(y[b])}")
        density = plane.log_posterior[:, b].exp().view(points, points)
        nodes = plane.z[:, b].view(points, points, 2)
        extent = [*nodes[[0, -1], 0, 0].tolist(), *nodes[0, [0, -1], 1].tolist()]
        middle.imshow(density.T, extent=extent, origin="lower", cmap="Blues", aspect="auto")
        middle.plot(*drawn[:, b].T.cpu(), ".", ms=2, color="0.15", alpha=0.6)
        middle.set(xlim=spread[b, 0].tolist(), ylim=spread[b, 1].tolist())
        middle.set_facecolor("#f7fbff")  # as the shading's lowest: the grid may end before the axes
        middle.grid(False)
        middle.set_ylabel("$z_2$", rotation=0, labelpad=6)
        right.hist(excess[:, b].clip(min=bins[0]), bins, color=COLOURS["guide"], alpha=0.8,
                   label="samples of the guide")  # fmt: skip
        right.hist(perfect[:, b] - plane.log_evidence[b], bins, color=COLOURS["posterior"],
                   label="samples of the exact posterior")  # fmt: skip
        right.set(yscale="log", ylabel="samples")
        if b == 0:
            middle.set_title("exact $p(z\\,|\\,x, y)$ (shading),\n400 draws by resampling")
            right.set_title("log weight minus $\\log p(x\\,|\\,y)$, 1,000 samples")
            right.legend(fontsize=8.5)
    axes[-1, 1].set_xlabel("$z_1$")
    axes[-1, 2].set_xlabel("nats (the first bar: all that are lower)")
    figure.suptitle(
        "The perfect sampling distribution is the posterior: its weights are equal, up to the grid"
    )
    return figure
