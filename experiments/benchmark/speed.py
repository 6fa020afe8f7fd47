"""How fast is the same work, done by this package and by others?

A user gives up the plain loop of the appendix only for something that is not slower. So each
contender trains, and estimates log p(x), beside that loop.
"""

import importlib.util
import math

import numpy as np
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

from experiments.benchmark.contenders import (
    our_likelihood,
    our_training,
    plain_likelihood,
    plain_training,
    pyro_likelihood,
    pythae_likelihood,
)
from experiments.benchmark.turns import Contenders, compared, take_turns
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.networks.appendix import State
from pyro_vae.networks.precision import resolve_precision

TITLES = {
    "training": "training",
    "log_p_100": "log p(x), 100 samples",
}


def measure(x: Tensor, state: State, rounds: int, device: str) -> dict:
    """Time training and log p(x) by each contender in turn; the weights `state` are trained."""
    contenders = {
        "training": _training(x[:2000], state, device),
        "log_p_100": _likelihood(x[:200], state),
    }
    metrics = {}
    for key, table in contenders.items():
        if device != "cpu":  # the C library does not manage a GPU's memory
            table = {name: entry for name, entry in table.items() if "keep" not in entry[1]}
        images = len(table["plain"][1]["images"])
        metrics[key] = compared(take_turns(table, rounds, TITLES[key], device), images, "plain")
    return metrics


def _training(images: Tensor, state: State, device: str) -> Contenders:
    options = {"images": images, "state": state}
    table: Contenders = {
        "plain": (plain_training, options),
        "plain, memory kept": (plain_training, options | {"keep": True}),
        "ours, float32": (our_training, options | {"precision": "float32"}),
    }
    if resolve_precision("auto", device) == "bfloat16":
        options = options | {"precision": "bfloat16"}
        table["ours, bfloat16 guide"] = (our_training, options)
        closed = options | {"elbo": TraceMeanField_ELBO}
        table["ours, bfloat16, closed KL"] = (our_training, closed)
    return table


def _likelihood(images: Tensor, state: State) -> Contenders:
    options = {"images": images, "state": state, "num_samples": 100}
    table: Contenders = {
        "plain": (plain_likelihood, options),
        "plain, memory kept": (plain_likelihood, options | {"keep": True}),
        "ours": (our_likelihood, options),
        "ours, from a user's program": (our_likelihood, options | {"keep": False}),
        "Pyro, image by image": (pyro_likelihood, options),
    }
    if importlib.util.find_spec("pythae"):
        table["pythae get_nll"] = (pythae_likelihood, options)
    return table


def as_text(tables: dict[str, dict]) -> str:
    """Return tables for a terminal, by their titles: each contender beside the plain way."""
    lines = []
    for title, table in tables.items():
        lines.append(f"{title:<28}{'images/s':>10}{'quartiles':>20}{'faster':>9}{'MiB':>8}")
        for name, row in table.items():
            low, high = row["quartiles"]
            lines.append(
                f"  {name:<26}{row['images_a_second']:>10.1f}{f'{low:.1f} to {high:.1f}':>20}"
                f"{row['times_as_fast']:>8.2f}x{row['peak_mib'] or math.nan:>8.0f}"
            )
    return "\n".join(lines)


def draw(axes: np.ndarray, tables: dict[str, dict]) -> None:
    """Draw how many times as fast as the plain way each contender is, an axis for each table."""
    for ax, (title, rows) in zip(axes, tables.items(), strict=True):
        place = np.arange(len(rows))[::-1]
        times = np.array([row["times_as_fast"] for row in rows.values()])
        ends = np.array([row["times_as_fast_quartiles"] for row in rows.values()]).T
        colours = [COLOURS["posterior"] if name.startswith("ours") else "0.65" for name in rows]
        ax.barh(place, times, 0.6, color=colours, xerr=np.abs(ends - times), ecolor="0.2")
        for y, row, end in zip(place, rows.values(), ends[1], strict=True):
            rate = row["images_a_second"]
            label = f"  {rate:,.0f} img/s" if rate >= 100 else f"  {rate:.1f} img/s"
            ax.text(end, y, label, va="center", fontsize=9)
        ax.axvline(1, color="0.3", lw=0.8)
        ax.set_yticks(place, list(rows))
        ax.set(title=title, xlim=(0, 1.35 * ends[1].max()), xlabel="times as fast as plain PyTorch")
