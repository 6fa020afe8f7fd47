"""What lies between two images in the latent space?

The coursework asks for the images along a straight line between the latents of two images. Its ends
are the guide's means. Beyond that: how wide is the posterior at each end, as a share of the line,
and does the guide's Gaussian cover it?
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_a import SEED
from experiments.question_a.reader import Reader
from pyro_vae.analysis.plots import COLOURS, image_rows, show_image
from pyro_vae.analysis.sampling import guide_samples, posterior_moments, posterior_samples
from pyro_vae.vae import Vae

STEPS = 7


def figure(vae: Vae, x: Tensor, names: list[str], reader: Reader) -> tuple[Figure, dict]:
    """Draw the mean images along the line between two images, over the mix of their pixels.

    Also return what they are read as.
    """
    t = torch.linspace(0, 1, STEPS)
    means = vae.interpolate(x[:1], x[1:], steps=STEPS)[:, 0]
    blends = torch.lerp(x[0], x[1], t.to(x)[:, None, None, None])
    labels, read_as = reader.read(means)
    over = [f"t = {s:.2f}\n{read}".strip() for s, read in zip(t.tolist(), read_as, strict=True)]
    figure = image_rows(
        [means.to(x), blends],
        ["mean image at\n$(1-t)\\,\\mu_0 + t\\,\\mu_1$", "mix of the\npixels"],
        f"Interpolation in the latent space, from {names[0]} to {names[1]}",
        [over, [names[0], *[""] * (STEPS - 2), names[1]]],
        size=1.15,
    )
    return figure, {"t": t.tolist(), "read_as": labels}


def endpoints_figure(vae: Vae, x: Tensor, names: list[str]) -> tuple[Figure, dict]:
    """Draw guide and posterior at both ends, in the plane of the interpolation.

    The horizontal axis runs along the line, the vertical one in the direction at right angles to it
    in which the two posteriors spread most; both in lengths of the line. Needs d > 1. Also return
    the effective sample sizes behind the draws of the posterior, and the share of each that lies
    within two standard deviations of the guide: 86% where they are the same Gaussian.
    """
    ends = posterior_moments(vae.guide, x)[0].to(x)
    line = ends[1] - ends[0]
    exact, ess = posterior_samples(
        vae.model, vae.refined().guide, x, num_draws=1500, num_samples=5000, seed=SEED
    )
    rough = guide_samples(vae.guide, x, num_samples=5000, seed=SEED)  # (5000, 2, d)
    plane = _plane(line, exact)
    figure = Figure(figsize=(9, 4.2))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    held = []
    for b in (0, 1):
        dots = ((exact[:, b] - ends[0]) @ plane).cpu().numpy()
        ax.plot(*dots.T, ".", ms=2.2, alpha=0.5, color=COLOURS["posterior"], rasterized=True)
        cloud = ((rough[:, b] - ends[0]) @ plane).cpu().numpy()
        mean, covariance = cloud.mean(0), np.cov(cloud.T)
        variances, axes = np.linalg.eigh(covariance)
        turn = np.linspace(0, 2 * np.pi, 100)
        circle = axes @ (np.sqrt(variances)[:, None] * [np.cos(turn), np.sin(turn)])
        for deviations in (1, 2):
            ax.plot(*(mean[:, None] + deviations * circle), color=COLOURS["guide"], lw=1.8)
        off = dots - mean
        held.append(float((np.sum(off @ np.linalg.inv(covariance) * off, 1) <= 4).mean()))
        show_image(ax.inset_axes([0.01 if b == 0 else 0.85, 0.02, 0.14, 0.24]), x[b], names[b])
    ax.plot([], [], ".", ms=9, color=COLOURS["posterior"], label="posterior, 1,500 draws")
    ax.plot([], [], color=COLOURS["guide"], label="guide, 1 and 2 standard deviations")
    ax.plot([0, 1], [0, 0], "k-", lw=1, label="interpolation")
    ax.set(
        xlabel=f"along the interpolation: 0 = {names[0]}, 1 = {names[1]}",
        ylabel="widest direction across",
        title=f"The guide's two standard deviations hold {held[0]:.0%} of the posterior of "
        f"{names[0]}, and {held[1]:.0%} of {names[1]}",
    )
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(y=0.35)
    figure.legend(fontsize=9, loc="outside lower center", ncols=3)
    found = {"effective_sample_size": ess.tolist(), "num_samples": 5000, "held_by_guide": held}
    return figure, found


def _plane(line: Tensor, draws: Tensor) -> Tensor:
    """Return the axes of the plane as columns, `(d, 2)`, in units of the line's length."""
    centred = (draws - draws.mean(0)).flatten(0, 1)
    across = centred - (centred @ line)[:, None] * line / line.norm() ** 2
    vertical = torch.linalg.svd(across, full_matrices=False).Vh[0] * line.norm()
    return torch.stack([line, vertical], 1) / line.norm() ** 2
