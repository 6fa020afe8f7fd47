"""The exact posterior at d = 2, and each guide over it."""

import numpy as np
import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.analysis.sampling import guide_samples
from pyro_vae.errors import InputError
from pyro_vae.guides.amortised import Amortised
from pyro_vae.likelihood.importance import log_joint_in_chunks
from pyro_vae.likelihood.quadrature import GridPosterior, integrate_plane
from pyro_vae.likelihood.traces import Program, log_joint
from pyro_vae.models import Model

SEED = 3  # of everything drawn for the comparison; the training has its own


@torch.no_grad()
def posteriors_figure(
    model: Model, guides: dict[str, Program], x: Tensor, labels: list[str]
) -> Figure:
    """The exact posterior of each image (d = 2), and the contours of each guide over it.

    A picture holds the posterior and the amortised guides. Contours hold 50% and 95% of a guide's
    mass; where less lies in the picture, it says how much.
    """
    plane = integrated(model, x)
    drawn = [
        guide_samples(guide, x, num_samples=200, seed=SEED).double().cpu()
        for guide in guides.values()
        if isinstance(guide, Amortised)
    ]
    figure = Figure(figsize=(1.9 * (len(guides) + 1) + 0.4, 2.05 * len(x) + 0.9))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(x), len(guides) + 1, squeeze=False)
    for b, row in enumerate(axes):
        show_image(row[0], x[b])
        row[0].set_ylabel(labels[b], fontsize=9)
        bulk = plane.log_posterior[:, b] > plane.log_posterior[:, b].max() - 7
        low, high = torch.cat([plane.z[bulk, b], *(z[:, b] for z in drawn)]).aminmax(dim=0)
        centre, half = (low + high) / 2, 0.6 * float((high - low).max())
        ticks = [torch.linspace(float(c) - half, float(c) + half, 201) for c in centre]
        area = float(ticks[0][1] - ticks[0][0]) ** 2
        grid = torch.cartesian_prod(*ticks)[:, None]  # (n * n, 1, 2)
        log_p = log_joint_in_chunks(model, [x[b : b + 1]], {"z": grid.to(x)})[:, 0]
        posterior = (log_p - plane.log_evidence[b]).exp()
        extent = [*(float(tick[end]) for tick in ticks for end in (0, -1))]
        for ax, (name, guide) in zip(row[1:], guides.items(), strict=True):
            ax.imshow(
                posterior.view(201, 201).T,
                extent=extent,
                origin="lower",
                cmap="Blues",
                norm=PowerNorm(0.5, vmin=0),  # a second, fainter mode is seen too
                aspect="auto",
            )
            density = log_joint(guide, [x[b : b + 1]], {"z": grid.to(x)})[:, 0].double().exp().cpu()
            levels = mass_levels(density.numpy(), area)
            if levels:
                ax.contour(
                    *[tick.numpy() for tick in ticks],
                    density.view(201, 201).T.numpy(),
                    levels=levels,
                    colors=COLOURS["guide"],
                    linewidths=1.3,
                )
            else:
                held = float(density.sum()) * area
                ax.set_xlabel(f"{held:.0%} of it in here", fontsize=8, color=COLOURS["guide"])
            ax.tick_params(labelsize=6.5)
            ax.locator_params(nbins=4)
            ax.grid(False)
            if b == 0:
                ax.set_title(name.replace("_", "\n"), fontsize=9.5)
    figure.suptitle(
        "Exact posterior over the latent plane (shading: square root of its density)\n"
        "and each guide (50% and 95% contours)"
    )
    return figure


def mass_levels(density: np.ndarray, cell: float) -> list[float]:
    """The densities whose contours hold 95% and 50% of the mass; without those beyond the grid."""
    order = np.sort(density)[::-1]
    mass = np.cumsum(order) * cell
    levels = [float(order[np.searchsorted(mass, s)]) for s in (0.95, 0.5) if s < mass[-1]]
    return sorted(set(levels))


def four_posteriors(
    gap: np.ndarray, spread: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Images with the smallest, the median and the largest gap, and with the widest posterior."""
    order = np.argsort(gap)
    chosen = np.array([order[0], order[len(order) // 2], order[-1], np.argmax(spread)])
    kinds = ["easy", "typical", "hard", "ambiguous"]
    names = [
        f"{kind}: a {labels[i]}\ngap {gap[i]:.1f} nats, sd {spread[i]:.2f}"
        for kind, i in zip(kinds, chosen, strict=True)
    ]
    return chosen, names


def integrated(model: Program, x: Tensor, points: int = 161) -> GridPosterior:
    """Quadrature over [-6, 6]^2, or twice as far where that does not hold the posterior.

    That of a model hardly trained may lie anywhere.
    """
    try:
        return integrate_plane(model, x, points=points)
    except InputError:
        return integrate_plane(model, x, points=2 * points - 1, half_width=12.0)


def exact(model: Model, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """log p(x) and the standard deviation of p(z | x) over both axes, exact, both `(B,)`."""
    log_p, spread = [], []
    for part in tqdm(x.split(5), desc="quadrature"):
        plane = integrated(model, part, points=81)
        log_p.append(plane.log_evidence)
        spread.append(plane.moments()[1].square().sum(-1).sqrt())
    return torch.cat(log_p).numpy(), torch.cat(spread).numpy()
