"""Is the posterior the perfect sampling distribution for p(x | y)?

The weights p(z) p(x | z, y) / q(z) are constant, and equal p(x | y), if and only if q is the
posterior p(z | x, y). At d = 2 the posterior is had by quadrature, so this can be seen rather than
believed. The spread of its log weights that is left comes from the cells of the grid: it doubles
with their width. The posterior also says how good draws by resampling are, which is all that can
be had at d = 10.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_d import SEED
from pyro_vae.analysis.plots import COLOURS, short_name, show_image
from pyro_vae.analysis.sampling import posterior_samples
from pyro_vae.data.dataset import Dataset
from pyro_vae.guides.exact import ExactGuide
from pyro_vae.likelihood.estimate import estimate
from pyro_vae.likelihood.importance import log_weights
from pyro_vae.likelihood.quadrature import GridPosterior, integrate_plane
from pyro_vae.vae import Vae

IMAGES = 4  # the first of the test images
POINTS = 201  # of the grid along each axis
HALF_WIDTH = 9.0  # after so little training a posterior lies far from its prior


def measure(vae: Vae, data: Dataset) -> tuple[dict, GridPosterior, Tensor, dict[str, Tensor]]:
    """Compare the log weights of the exact posterior, of coarser cells, and of the guide.

    `vae` has d = 2. Also returns the posterior on the grid, draws by resampling, `(400, B, 2)`, and
    the log weights by name, `(1000, B)` each.
    """
    print("theory: weights under the exact posterior, by quadrature at d = 2")
    model = vae.model
    x, y = vae.here(data.test_images[:IMAGES], data.test_labels[:IMAGES])
    plane = integrate_plane(model, x, y, points=POINTS, half_width=HALF_WIDTH)
    log_p = plane.log_evidence.numpy()
    guides = {
        "perfect": ExactGuide(model, POINTS, HALF_WIDTH),
        "perfect_twice_the_step": ExactGuide(model, POINTS // 2 + 1, HALF_WIDTH),
        "guide": vae.guide,
    }
    log_w = {
        name: log_weights(model, guide, x, y, num_samples=1000, seed=SEED)
        for name, guide in guides.items()
    }
    by_samples = estimate(log_w["perfect"]).value
    drawn, ess = posterior_samples(
        model, vae.refined().guide, x, y, num_draws=400, num_samples=5000, seed=SEED
    )
    mean, sd = plane.moments()
    se = sd / np.sqrt(len(drawn))  # of the mean of the draws
    metrics = {
        "images": IMAGES,
        "log_p_by_quadrature": log_p.tolist(),
        "log_p_by_perfect_samples": by_samples.tolist(),
        "largest_difference_of_the_two": float(np.abs(by_samples - log_p).max()),
        "sd_of_log_weights": {name: table.std(0).tolist() for name, table in log_w.items()},
        "largest_error_of_one_perfect_weight": float(
            (log_w["perfect"] - plane.log_evidence).abs().max()
        ),
        "resampled_effective_sample_size_of_5000": ess.tolist(),
        "resampled_mean_off_in_se": ((drawn.double().mean(0) - mean) / se).abs().tolist(),
        "resampled_sd_to_exact": (drawn.double().std(0) / sd).tolist(),
    }
    return metrics, plane, drawn, log_w


def figure(data: Dataset, plane: GridPosterior, drawn: Tensor, log_w: dict[str, Tensor]) -> Figure:
    """Show draws by resampling over the exact posterior, and the log weights beside them."""
    figure = Figure(figsize=(10.8, 2.55 * IMAGES + 0.9))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(IMAGES, 3, width_ratios=[0.55, 1, 1.5])
    points = round(len(plane.z) ** 0.5)
    mean, sd = plane.moments()
    limits = torch.stack([mean - 4.5 * sd, mean + 4.5 * sd], -1)  # (B, 2, 2)
    exact, excess = (log_w[name] - plane.log_evidence for name in ("perfect", "guide"))
    bins = np.linspace(float(excess.quantile(0.005)), max(float(excess.max()), 1), 80)
    for b, (left, middle, right) in enumerate(axes):
        name = short_name(data.classes[data.test_labels[b]])
        show_image(left, data.test_images[b], f"x, y = {name}")
        density = plane.log_posterior[:, b].exp().view(points, points)
        nodes = plane.z[:, b].view(points, points, 2)
        extent = [*nodes[[0, -1], 0, 0].tolist(), *nodes[0, [0, -1], 1].tolist()]
        middle.imshow(density.T, extent=extent, origin="lower", cmap="Blues", aspect="auto")
        middle.plot(*drawn[:, b].T.cpu(), ".", ms=2, color="0.15", alpha=0.6)
        middle.set(xlim=limits[b, 0].tolist(), ylim=limits[b, 1].tolist())
        middle.set_facecolor("#f7fbff")  # as the shading's lowest: the grid may end before the axes
        middle.grid(False)
        middle.set_ylabel("$z_2$", rotation=0, labelpad=6)
        right.hist(excess[:, b].clip(min=bins[0]), bins, color=COLOURS["guide"], alpha=0.8,
                   label="samples of the guide")  # fmt: skip
        right.hist(exact[:, b], bins, color=COLOURS["posterior"],
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
