"""Calibration: are a guide's draws draws of p(z | x)? Simulated images tell.

k-hat judges a guide by its own draws: it can't see a mode that none of them has met. An image that
is simulated from the model comes with an exact draw of its posterior, the latent z* behind it.
Where the guide is right, z* is one more draw among its own. Its rank among L of them is then
uniform on 0, ..., L, by whatever number the draws are ordered:

- each coordinate (Talts et al. 2018, Validating Bayesian inference algorithms with simulation-based
  calibration, theorem 1);
- log p(x, z), which a mistake in any direction moves (Modrak et al. 2023, Simulation-based
  calibration checking for Bayesian computation, section 3);
- the distance from a further draw of the guide, which is expected coverage by balls around it
  (Lemos et al. 2023, Sampling-based accuracy testing of posterior estimators, theorem 3).

A guide that is too narrow has too many ranks at both ends, a wide one too few. The distribution
over all images is compared with a uniform one by a band that holds all of its steps at once
(Saeilynoja et al. 2022, Graphical test for discrete uniformity, algorithm 2).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

from pyro_vae.analysis.plots import COLOURS
from pyro_vae.complaints import one_line_refusals
from pyro_vae.errors import InputError, check_counts, check_rows, check_seed, checked
from pyro_vae.likelihood.importance import log_joint_in_chunks, resampled
from pyro_vae.likelihood.refusals import check_names, check_shape
from pyro_vae.likelihood.traces import batches, draw, simulate
from pyro_vae.programs import Program, has_own_numbers, in_evaluation_mode
from pyro_vae.progress import Progress, progress_bar
from pyro_vae.seeds import derive_seed, seeded

BLOCK = 100  # images at a time
SIMULATIONS = 5000  # sets of uniform ranks behind a band: p-values from 1 / 5,001 on
LEVEL = 0.05


class Calibration(NamedTuple):
    """Ranks of the latents behind simulated images among a guide's draws.

    `print(calibration)` says whether they are uniform; `calibration.plot()` shows it.
    """

    ranks: np.ndarray  # (B, T): of B images, by T numbers; whole numbers from 0 to num_draws
    names: tuple[str, ...]  # of the T numbers
    num_draws: int

    @property
    def steps(self) -> np.ndarray:
        """The share of ranks up to each of 0, ..., L - 1, minus a uniform rank's: `(L, T)`."""
        upto = np.stack([_counts(column, self.num_draws) for column in self.ranks.T], 1)
        uniform = _uniform(self.num_draws)
        return upto / len(self.ranks) - uniform[:, None]

    @property
    def distance(self) -> np.ndarray:
        """The largest step of each number, `(T,)`: 0 for a guide that is right, 1 at the most."""
        return np.abs(self.steps).max(0)

    @property
    def p_values(self) -> np.ndarray:
        """Of each number, `(T,)`: how often uniform ranks leave their band as far as these."""
        least = _simulated(len(self.ranks), self.num_draws)
        upto = np.stack([_counts(column, self.num_draws) for column in self.ranks.T])
        found = _least_tail(upto, len(self.ranks))
        p = (1 + np.searchsorted(least, found, side="right")) / (1 + len(least))
        # beyond all simulated sets the sum over the steps is a bound: it goes on to zero
        return np.where(found < least[0], np.minimum(p, self.num_draws * found), p)

    @property
    def p_value(self) -> float:
        """Of all numbers together, by Bonferroni's inequality."""
        return float(min(1, len(self.names) * self.p_values.min()))

    @property
    def band(self) -> tuple[np.ndarray, np.ndarray]:
        """Where all `steps` of a number lie with 95% probability if its ranks are uniform.

        From and to, `(L,)` each. Each number has a band by itself.
        """
        images = len(self.ranks)
        tail = np.quantile(_simulated(images, self.num_draws), LEVEL) / 2 * (1 - 1e-9)
        uniform = _uniform(self.num_draws)
        low, high = stats.binom.ppf(tail, images, uniform), stats.binom.isf(tail, images, uniform)
        return low / images - uniform, high / images - uniform

    @property
    def worst(self) -> str:
        """The number whose ranks are least likely uniform; of several the furthest from it."""
        return self.names[np.lexsort((-self.distance, self.p_values))[0]]

    def summary(self) -> dict:
        """Return the verdict as numbers, for JSON."""
        return {
            "images": len(self.ranks),
            "num_draws": self.num_draws,
            "largest_distance": float(self.distance.max()),
            "of": self.worst,
            "p_value": self.p_value,
            "distance": dict(zip(self.names, self.distance.tolist(), strict=True)),
        }

    def __str__(self) -> str:
        """Return the verdict in a line."""
        if self.p_value >= LEVEL:
            return (
                f"calibrated: ranks of {len(self.ranks):,} simulated latents look uniform by all "
                f"{len(self.names)} numbers (p = {self.p_value:.2g})"
            )
        apart = self.distance[self.names.index(self.worst)]
        found, right = (self._outside(r) for r in (self.ranks, np.arange(self.num_draws + 1)))
        return (
            f"not calibrated (p = {self.p_value:.3g}): by {self.worst}, ranks are up to "
            f"{apart:.0%} from uniform; {found:.0%} of the coordinates lie outside the middle of "
            f"the draws, where {right:.0%} would be right"
        )

    def _outside(self, ranks: np.ndarray) -> float:
        """Return the share of the coordinates' ranks outside the middle 90%, or what is nearest."""
        low = max(1, round(0.05 * (self.num_draws + 1)))
        ranks = ranks[:, :-2] if ranks.ndim > 1 else ranks
        return float(((ranks < low) | (ranks > self.num_draws - low)).mean())

    def plot(self) -> Figure:
        """Draw the steps of each number, and the band that holds those of a right guide."""
        figure = Figure(figsize=(7.5, 4.2))
        figure.set_layout_engine("constrained")
        ax = figure.subplots()
        places = _uniform(self.num_draws)
        ax.fill_between(places, *self.band, color="0.88", label="a right guide's, 95% of each")
        whole = {"log p(x, z)": COLOURS["guide"], "distance": COLOURS["posterior"]}
        first = True
        for name, steps in zip(self.names, self.steps.T, strict=True):
            style = {"color": whole.get(name, "0.45"), "lw": 2 if name in whole else 0.9}
            label = name if name in whole else ("each coordinate of z" if first else None)
            first = first and name in whole
            ax.plot(places, steps, drawstyle="steps-post", label=label, **style)
        ax.axhline(0, color="0.3", lw=0.8)
        ax.set(xlabel="rank among the guide's draws", ylabel="share up to it, minus a uniform's")
        ax.xaxis.set_major_formatter("{x:.0%}")
        ax.legend(loc="upper right")
        right = self.p_value >= LEVEL
        ax.set_title("Calibrated" if right else f"Not calibrated: p = {self.p_value:.1g}")
        return figure


@checked
@one_line_refusals
@in_evaluation_mode
@torch.no_grad()
def calibrate(
    model: Program,
    guide: Program,
    images: Tensor,
    *labels: Tensor,
    num_draws: int = 99,
    num_samples: int | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> Calibration:
    """Rank the latents of simulated images, as many as in `images`, among a guide's draws.

    Of `images` only the shape and type are used. Simulated images are drawn pixels: an encoder that
    was trained on other images, grey ones for instance, is tested on what it has never seen.

    >>> from pyro_vae import LinearGaussian, calibrate
    >>> problem = LinearGaussian()
    >>> print(calibrate(problem.model, problem.exact_guide, problem.data(500)))
    calibrated: ranks of 500 simulated latents look uniform by all 4 numbers (p = 1)

    Args:
        num_draws: L, draws of the guide for each image.
        num_samples: if given, the L draws are resampled from so many, in proportion to their
            importance weights: what is tested is then the weighted guide. At least 10 (L + 1), or
            draws would be equal to one another, which alone looks narrow.
        progress: True or a text shows progress, False nothing; by default on a terminal only.
    """
    check_counts(num_draws=num_draws)
    if num_samples is not None:
        check_counts(10 * (num_draws + 1), num_samples=num_samples)
    check_seed(seed)
    check_rows(images, *labels, first="images")
    if has_own_numbers(guide):
        raise InputError(
            "guide has numbers of its own for each image, and simulated images are others: give "
            "one that takes any image"
        )
    with seeded(seed, images):
        x, latents = simulate(model, images, *labels)
    _check_plate(latents, len(x))
    blocks = batches([x, *labels, *latents.values()], BLOCK)
    ranks = []
    with progress_bar(progress, len(blocks), "block") as bar:
        for number, block in enumerate(blocks):
            batch, truth = block[: 1 + len(labels)], block[1 + len(labels) :]
            of_block = dict(zip(latents, truth, strict=True))
            with seeded(derive_seed(seed, number, 1), x):
                drawn = _drawn(model, guide, batch, of_block, num_draws + 1, num_samples)
            numbers = _numbers(model, batch, of_block, drawn)
            rng = np.random.default_rng(derive_seed(seed, number, 2))
            ranks.append(np.stack([_rank(values, rng) for values in numbers.values()], 1))
            bar.update()
    return Calibration(np.concatenate(ranks), tuple(numbers), num_draws)


def _check_plate(latents: dict[str, Tensor], images: int) -> None:
    for name, z in latents.items():
        if z.shape[:1] != (images,):
            raise InputError(
                f"latent {name!r} has the shape {tuple(z.shape)}: sample it for each of the "
                f"{images} images, in a plate over them"
            )


def _drawn(
    model: Program,
    guide: Program,
    batch: list[Tensor],
    truth: dict[str, Tensor],
    count: int,
    num_samples: int | None,
) -> dict[str, Tensor]:
    """Return draws of the guide, `(count, B, ...)` of each latent; weighted if of `num_samples`."""
    latents, log_q = draw(guide, batch, num_samples or count)
    check_names(latents, truth)
    for name, z in latents.items():
        check_shape(name, z.shape[2:], truth[name].shape[1:])
    if num_samples is None:
        return latents
    log_w = log_joint_in_chunks(model, batch, latents) - log_q.cpu()
    _check_numbers(log_w.numpy(), "a log weight")
    return resampled(latents, torch.softmax(log_w, 0), count)


def _check_numbers(values: np.ndarray, what: str) -> None:
    if np.isnan(values).any():
        raise InputError(
            f"{what} is NaN at a draw of the guide: look for overflow in the networks, or for "
            "draws outside of the model's support"
        )


def _numbers(
    model: Program, batch: list[Tensor], truth: dict[str, Tensor], drawn: dict[str, Tensor]
) -> dict[str, np.ndarray]:
    """Return the numbers that latents are ordered by, `(1 + L, B)` each: the truth's is the first.

    `drawn` has a draw more, from which distances are taken.
    """
    latents = {name: torch.cat([truth[name][None].to(z), z]) for name, z in drawn.items()}
    ordered = {name: z[:-1] for name, z in latents.items()}
    flat = {name: z.flatten(2) if z.dim() > 2 else z[..., None] for name, z in latents.items()}
    numbers = {}
    for name, z in flat.items():
        for i in range(z.shape[-1]):
            label = f"{name}[{i}]" if z.shape[-1] > 1 else name
            numbers[label] = z[:-1, :, i].double().cpu().numpy()
    numbers["log p(x, z)"] = log_joint_in_chunks(model, batch, ordered).numpy()
    apart = sum((z[:-1] - z[-1]).double().square().sum(-1) for z in flat.values())
    numbers["distance"] = apart.cpu().numpy()
    for label, values in numbers.items():
        _check_numbers(values, label)
    return numbers


def _rank(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the rank of the first row of `values`, `(1 + L, B)`, among the others; ties by lot."""
    below, alike = (values[1:] < values[0]).sum(0), (values[1:] == values[0]).sum(0)
    return below + rng.integers(0, alike + 1)


def _uniform(num_draws: int) -> np.ndarray:
    """Return the share of uniform ranks that are at most 0, ..., L - 1: `(L,)`."""
    return np.arange(1, num_draws + 1) / (num_draws + 1)


def _counts(ranks: np.ndarray, num_draws: int) -> np.ndarray:
    """Return how many ranks are at most 0, ..., L - 1: `(L,)`."""
    return np.bincount(ranks, minlength=num_draws + 1).cumsum()[:-1]


@lru_cache(maxsize=8)
def _simulated(images: int, num_draws: int) -> np.ndarray:
    """Return the least tail of SIMULATIONS sets of uniform ranks, in order."""
    rng = np.random.default_rng(0)
    shares = np.full(num_draws + 1, 1 / (num_draws + 1))
    upto = rng.multinomial(images, shares, SIMULATIONS).cumsum(1)[:, :-1]
    return np.sort(_least_tail(upto, images))


def _least_tail(upto: np.ndarray, images: int) -> np.ndarray:
    """Return the smallest two-sided tail probability over the steps of each set, `(S, L)`.

    `upto` counts the ranks up to each step; of uniform ones it is binomial.
    """
    uniform = _uniform(upto.shape[1])
    below = stats.binom.cdf(upto, images, uniform)
    above = stats.binom.sf(upto - 1, images, uniform)
    return 2 * np.minimum(below, above).min(1)
