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
from pyro_vae.analysis.sampling import posterior_moments, posterior_samples
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


def figure(
    data: Dataset, vae: Vae, plane: GridPosterior, drawn: Tensor, log_w: dict[str, Tensor]
) -> Figure:
    """Show the first image: its posterior, the guide over it, and the log weights of both."""
    figure = Figure(figsize=(9.5, 3.6))
    figure.set_layout_engine("constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[0.55, 1, 1.3])
    x, y = vae.here(data.test_images[:IMAGES], data.test_labels[:IMAGES])
    show_image(left, x[0], f"x, y = {short_name(data.classes[data.test_labels[0]])}")
    points = round(len(plane.z) ** 0.5)
    density = plane.log_posterior[:, 0].exp().view(points, points)
    nodes = plane.z[:, 0].view(points, points, 2)
    extent = [*nodes[[0, -1], 0, 0].tolist(), *nodes[0, [0, -1], 1].tolist()]
    middle.imshow(density.T, extent=extent, origin="lower", cmap="Blues", aspect="auto")
    middle.set_facecolor("#f7fbff")  # as the shading's lowest: the grid may end before the axes
    middle.plot(*drawn[:, 0].T.cpu(), ".", ms=2, color="0.15", alpha=0.6)
    loc, sd = (moment[0].cpu() for moment in posterior_moments(vae.guide, x, y))
    turn = torch.linspace(0, 2 * np.pi, 100)
    for deviations in (1, 2):
        ring = deviations * torch.stack([turn.cos(), turn.sin()], 1) * sd
        middle.plot(*(loc + ring).T, color=COLOURS["guide"], lw=1.6)
    mean, width = plane.moments()
    middle.set(
        xlim=(mean[0, 0] + 4.5 * width[0, 0] * torch.tensor([-1, 1])).tolist(),
        ylim=(mean[0, 1] + 4.5 * width[0, 1] * torch.tensor([-1, 1])).tolist(),
        xlabel="$z_1$",
        ylabel="$z_2$",
        title="$p(z\\,|\\,x, y)$, 400 draws,\nand the guide (orange)",
    )
    middle.grid(False)
    exact, excess = ((log_w[n] - plane.log_evidence)[:, 0] for n in ("perfect", "guide"))
    bins = np.linspace(float(excess.quantile(0.01)), max(float(excess.max()), 0.5), 50)
    right.hist(excess.clip(min=bins[0]), bins, color=COLOURS["guide"], alpha=0.8, label="guide")
    right.hist(exact, bins, color=COLOURS["posterior"], alpha=0.8, label="posterior")
    right.set(
        ylabel="of 1,000 samples",
        xlabel="nats",
        title="log weight minus $\\log p(x\\,|\\,y)$",
    )
    right.legend()
    figure.suptitle("Drawn from the posterior, all weights are equal")
    return figure
