"""What do the guides look like beside the exact posterior?

At d = 2 quadrature gives log p(x) and p(z | x) exactly. That checks the refined guide's log p(x),
and shows which shapes of the posterior a family cannot follow.
"""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from experiments.compare_guides import SEED
from experiments.compare_guides.candidates import Field
from pyro_vae.analysis.comparison import Evaluation
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.analysis.sampling import guide_samples
from pyro_vae.errors import InputError
from pyro_vae.guides.amortised import Amortised
from pyro_vae.likelihood.importance import log_joint_in_chunks
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.likelihood.quadrature import GridPosterior, integrate_plane
from pyro_vae.likelihood.traces import log_joint
from pyro_vae.programs import Program

POINTS = 201  # along each side of a picture


def integrated(model: Program, x: Tensor, points: int = 161) -> GridPosterior:
    """Integrate over [-6, 6]^2, or over twice as far where that does not hold the posterior.

    The posterior of a model that is hardly trained may lie anywhere.
    """
    try:
        return integrate_plane(model, x, points=points)
    except InputError:
        return integrate_plane(model, x, points=2 * points - 1, half_width=12.0)


def against_quadrature(
    model: Program, evaluations: dict[str, Evaluation], x: Tensor
) -> tuple[dict, np.ndarray, np.ndarray]:
    """Return the exact log p(x) beside the refined estimate of the first evaluated images, `x`.

    Also returns what the figure chooses images by, both `(B,)`: the first guide's exact gap, and
    the standard deviation of p(z | x) over both axes.
    """
    values, spreads = [], []
    for part in tqdm(x.split(5), desc="quadrature"):
        plane = integrated(model, part, points=81)
        values.append(plane.log_evidence)
        spreads.append(plane.moments()[1].square().sum(-1).sqrt())
    log_p, spread = torch.cat(values).numpy(), torch.cat(spreads).numpy()
    refined = evaluations["refined"].log_p.value[: len(x)]
    metrics = {
        "exact": mean_interval(log_p) | {"estimator": "quadrature"},
        "exact_minus_refined": mean_interval(log_p - refined),
    }
    first = next(iter(evaluations.values()))
    return metrics, log_p - first.estimate.elbo[: len(x)], spread


@torch.no_grad()
def figure(
    field: Field, x: Tensor, named: list[str], gap: np.ndarray, spread: np.ndarray
) -> Figure:
    """Draw the exact posterior of two of the images `x`, and three guides over it.

    `named` says what each image is. The guides are the first, the mixture if it is among them, and
    the refined one.
    """
    chosen, names = two_posteriors(gap, spread, named)
    x, model = x[chosen], field.refined.model
    first = next(iter(field.candidates))
    shown = [name for name in dict.fromkeys((first, "mixture")) if name in field.candidates]
    guides = {name: field.candidates[name][1] for name in shown}
    guides["refined"] = field.refined.guide
    plane = integrated(model, x)
    samples = [
        guide_samples(guide, x, num_samples=200, seed=SEED).double().cpu()
        for guide in guides.values()
        if isinstance(guide, Amortised)
    ]
    figure = Figure(figsize=(2.5 * (len(guides) + 1), 2.6 * len(x) + 0.6))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(x), len(guides) + 1, squeeze=False)
    for ax, name in zip(axes[0, 1:], guides, strict=True):
        ax.set_title(name.replace("_", " "), fontsize=11)
    for b, row in enumerate(axes):
        show_image(row[0], x[b])
        row[0].set_ylabel(names[b], fontsize=10)
        log_p = plane.log_posterior[:, b]
        ticks = _window(
            torch.cat([plane.z[log_p > log_p.max() - 7, b], *(z[:, b] for z in samples)])
        )
        image, z = x[b : b + 1], torch.cartesian_prod(*ticks)[:, None].to(x)  # (n * n, 1, 2)
        log_p = log_joint_in_chunks(model, [image], {"z": z})[:, 0]
        posterior = (log_p - plane.log_evidence[b]).exp()
        for ax, guide in zip(row[1:], guides.values(), strict=True):
            density = log_joint(guide, [image], {"z": z})[:, 0].double().exp().cpu()
            _draw_posterior(ax, ticks, posterior, density)
    figure.suptitle("The exact posterior (blue), and each guide's 50% and 95% (orange)")
    return figure


def _window(z: Tensor) -> list[Tensor]:
    """Return the ticks of both axes of a square that holds the points `z`, `(N, 2)`."""
    low, high = z.aminmax(dim=0)
    centre, half = (low + high) / 2, 0.6 * float((high - low).max())
    return [torch.linspace(float(c) - half, float(c) + half, POINTS) for c in centre]


def _draw_posterior(ax: Axes, ticks: list[Tensor], posterior: Tensor, density: Tensor) -> None:
    """Shade p(z | x) and draw the contours of a guide's density, both `(n * n,)`.

    The contours hold 50% and 95% of the guide's mass. Where less than 50% lies in the picture, it
    says how much.
    """
    ax.imshow(
        posterior.view(POINTS, POINTS).T,
        extent=[*(float(tick[end]) for tick in ticks for end in (0, -1))],
        origin="lower",
        cmap="Blues",
        norm=PowerNorm(0.5, vmin=0),  # a second, fainter mode is seen too
        aspect="auto",
    )
    area = float(ticks[0][1] - ticks[0][0]) ** 2
    if levels := mass_levels(density.numpy(), area):
        ax.contour(
            *[tick.numpy() for tick in ticks],
            density.view(POINTS, POINTS).T.numpy(),
            levels=levels,
            colors=COLOURS["guide"],
            linewidths=1.3,
        )
    else:
        mass = float(density.sum()) * area
        ax.set_xlabel(f"{mass:.0%} of it in here", fontsize=8, color=COLOURS["guide"])
    ax.tick_params(labelsize=8)
    ax.locator_params(nbins=4)
    ax.grid(False)


def mass_levels(density: np.ndarray, cell: float) -> list[float]:
    """Return the densities whose contours hold 95% and 50% of the mass, if they are in the grid."""
    order = np.sort(density)[::-1]
    mass = np.cumsum(order) * cell
    levels = [float(order[np.searchsorted(mass, s)]) for s in (0.95, 0.5) if s < mass[-1]]
    return sorted(set(levels))


def two_posteriors(
    gap: np.ndarray, spread: np.ndarray, named: list[str]
) -> tuple[np.ndarray, list[str]]:
    """Choose the image with the median gap, and that with the widest posterior."""
    chosen = np.array([np.argsort(gap)[len(gap) // 2], np.argmax(spread)])
    names = [
        f"{name}: {named[i]}\ngap {gap[i]:.1f} nats"
        for name, i in zip(["typical", "ambiguous"], chosen, strict=True)
    ]
    return chosen, names
