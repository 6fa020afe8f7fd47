"""How long until log p(x) is right to 0.1 nats, by each way to estimate it?

A user who wants log p(x) chooses by this: what the way that they know costs, and whether it gets
there at all. Trained autoencoders are scored, since only their posteriors are hard to sample.
"""

import time

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.benchmark.contenders import (
    Work,
    annealed,
    our_likelihood,
    plain_likelihood,
    refined_likelihood,
    to_accuracy,
)
from experiments.benchmark.turns import Contenders, compared, finish, take_turns
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.networks.appendix import State

NEAR = 0.1  # nats
ASKED = "ours, to 0.1 nats"
# by each way of the figure: its maker, the option that says how much work, and its values
WAYS = {
    "plain PyTorch, memory kept": (plain_likelihood, "num_samples", (100, 1000, 10_000, 100_000)),
    "ours, the encoder's samples": (our_likelihood, "num_samples", (100, 1000, 10_000)),
    "annealing, by steps": (annealed, "num_steps", (10, 30, 100)),
    "refined, by samples": (refined_likelihood, "num_samples", (100, 1000, 10_000)),
    "refined, by the error asked for": (to_accuracy, "se", (0.3, 0.1, 0.03)),
}
LOOKS = {
    "plain PyTorch, memory kept": ("0.5", "o"),
    "ours, the encoder's samples": (COLOURS["guide"], "s"),
    "annealing, by steps": (COLOURS["annealed"], "^"),
    "refined, by samples": ("#9ec5e3", "v"),
    "refined, by the error asked for": (COLOURS["posterior"], "D"),
}


def measure(states: dict[int, State], x: Tensor, rounds: int, device: str) -> dict[str, dict]:
    """Measure the autoencoders `states`, by their dimensions d, on the images `x`."""
    return {
        f"d{d}": {
            "turns": take_them(x, state, rounds, device, d),
            **curves(x[: max(2, len(x) * 2 // 5)].to(device), state, device),
        }
        for d, state in states.items()
    }


def take_them(x: Tensor, state: State, rounds: int, device: str, d: int) -> dict[str, dict]:
    """Time five ways in turn, 1,000 samples or 0.1 nats, each in a process of its own."""
    options = {"images": x, "state": state}
    by_samples = options | {"num_samples": 1000}
    contenders: Contenders = {
        "plain": (plain_likelihood, by_samples),
        "plain, memory kept": (plain_likelihood, by_samples | {"keep": True}),
        "ours": (our_likelihood, by_samples),
        "ours, refined": (refined_likelihood, by_samples),
        ASKED: (to_accuracy, options | {"se": NEAR}),
    }
    if device != "cpu":  # the C library does not manage a GPU's memory
        del contenders["plain, memory kept"]
    records = take_turns(contenders, rounds, f"log p(x), d = {d}", device)
    table = compared(records, len(x), "plain")
    asked = np.array(records[ASKED]["seconds"])
    for name, row in table.items():  # how much longer the others take, within a round
        row["times_as_long_as_asked"] = float(np.median(records[name]["seconds"] / asked))
    return table


def curves(x: Tensor, state: State, device: str) -> dict:
    """Return each way's error and seconds as its work grows, and the reference for the errors.

    The reference is the mean of p-hat over two runs to a standard error of 0.02 nats, whose own
    largest difference is recorded. Memory is kept, as the first of these runs asks.
    """
    two = [to_accuracy(x, state, 0.02, 100_000, seed)() for seed in (11, 12)]
    values = np.stack([run.value for run in two])
    reference = np.logaddexp.reduce(values) - np.log(len(two))
    trusted = np.all([run.trusted() for run in two], 0)
    metrics: dict = {
        "reference": {
            "images": len(x),
            "log_p": mean_interval(reference),
            "share_trusted_in_both": float(trusted.mean()),
            "largest_difference": float(np.abs(values[0] - values[1]).max()),
        },
        "ways": {},
    }
    for name, (make, option, efforts) in WAYS.items():
        metrics["ways"][name] = [
            {option: effort} | _row(make(x, state, **{option: effort}), reference, device)
            for effort in efforts
        ]
    return metrics


def _row(work: Work, reference: np.ndarray, device: str) -> dict:
    """Do the work once; return the seconds of an image, and how far the values are off."""
    start = time.perf_counter()
    result = work()
    finish(device)
    seconds = (time.perf_counter() - start) / len(reference)
    value = result.value if isinstance(result, Estimate) else result
    error = value - reference
    row = {
        "seconds_an_image": seconds,
        "error": mean_interval(error),
        "mean_absolute_error": float(np.abs(error).mean()),
        "share_within_0.1": float((np.abs(error) <= NEAR).mean()),
        "share_within_0.3": float((np.abs(error) <= 3 * NEAR).mean()),
    }
    if isinstance(result, Estimate):
        row["share_trusted"] = float(result.trusted().mean())
    return row


def as_text(metrics: dict[str, dict]) -> str:
    """Return the table for a terminal."""
    lines = []
    for d, found in metrics.items():
        lines.append(
            f"log p(x), d = {d[1:]:<12}{'ms an image':>14}{'error, nats':>14}{'absolute':>10}"
        )
        for name, rows in found["ways"].items():
            for row in rows:
                effort = next(iter(row.values()))
                lines.append(
                    f"  {f'{name}: {effort:g}':<40}{1000 * row['seconds_an_image']:>9.1f}"
                    f"{row['error']['mean']:>14.3f}{row['mean_absolute_error']:>10.3f}"
                )
    return "\n".join(lines)


def figure(metrics: dict[str, dict]) -> Figure:
    """Draw error against time, an axis for each d; the least work of each way is named."""
    figure = Figure(figsize=(6.4 * len(metrics), 5.2))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for ax, (d, found) in zip(axes, metrics.items(), strict=True):
        _draw(ax, found, f"$d = {d[1:]}$")
    axes[0].set_ylabel("mean absolute error of log p(x), nats")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.suptitle("How long until log p(x) is right? Each way, as it is given more work")
    return figure


def _draw(ax: Axes, found: dict, title: str) -> None:
    for name, rows in found["ways"].items():
        colour, marker = LOOKS[name]
        seconds = [row["seconds_an_image"] for row in rows]
        errors = [row["mean_absolute_error"] for row in rows]
        ax.plot(seconds, errors, marker=marker, color=colour, label=name)
        for row, second, error in zip(rows, seconds, errors, strict=True):
            effort = next(iter(row.values()))
            ax.annotate(
                f"{effort:,g}" if effort < 1000 else f"{effort:,}",
                (second, error),
                (4, 5),
                textcoords="offset points",
                color=colour,
                fontsize=8,
            )
    ax.axhline(NEAR, color="0.3", lw=0.8, ls=":")
    ax.set(xscale="log", yscale="log", xlabel="seconds an image", title=title)
    ax.margins(x=0.12)
