"""How do the seconds and the memory of log p(x) grow with images, samples and latent dimensions?

A user who plans a larger run wants to know. More images and samples should take time in proportion
and no more memory, since the work is cut into chunks.
"""

import statistics

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import Tensor

from experiments.benchmark import SEED
from experiments.benchmark.contenders import fresh_weights, our_likelihood
from experiments.benchmark.turns import take_turns
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.networks.appendix import State

# what stays as it is, as each of these grows
REST = {
    "images": "x 100 samples",
    "samples": "x 20 images",
    "latent dimensions": "(100 x 100)",
}


def measure(x: Tensor, state: State, device: str) -> dict[str, list[dict]]:
    """Measure seconds and peak memory of log p(x), each setting in a process of its own."""
    settings = {
        "images": [
            (n, {"images": x[:n], "num_samples": 100}) for n in (100, 400, 1600) if n <= len(x)
        ],
        "samples": [(k, {"images": x[:20], "num_samples": k}) for k in (100, 1000, 10_000)],
        "latent dimensions": [
            (d, {"images": x[:100], "num_samples": 100, "state": fresh_weights(d, SEED)})
            for d in (2, 8, 32, 64)
        ],
    }
    metrics: dict[str, list[dict]] = {}
    for what, sizes in settings.items():
        metrics[what] = []
        for size, options in sizes:
            contenders = {"ours": (our_likelihood, {"state": state} | options)}
            record = take_turns(contenders, 3, f"{size:,} {what}", device)["ours"]
            seconds = statistics.median(record["seconds"])
            metrics[what].append({what: size, "seconds": seconds, "peak_mib": record["peak_mib"]})
    return metrics


def figure(metrics: dict[str, list[dict]]) -> Figure:
    """Draw the seconds as each of the three grows."""
    figure = Figure(figsize=(9, 3.2))
    figure.set_layout_engine("constrained")
    for ax, (what, rows) in zip(figure.subplots(1, 3), metrics.items(), strict=True):
        sizes, seconds = [row[what] for row in rows], [row["seconds"] for row in rows]
        ax.plot(sizes, seconds, "o-", color=COLOURS["posterior"])
        if what != "latent dimensions":  # they add work to the first layer alone
            line = [seconds[0] * size / sizes[0] for size in sizes]
            ax.plot(sizes, line, ":", color="0.4", zorder=0, label="in proportion")
            ax.legend(loc="lower right")
        ax.set(xscale="log", yscale="log")
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.yaxis.set_major_locator(LogLocator(subs=[1, 2, 5]))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.set(ylim=(min(seconds) / 3, 3 * max(seconds)), ylabel="seconds")
        ax.set_xlabel(f"{what}\n{REST[what]}")
    figure.suptitle("Seconds of log p(x) grow with the work, not with d")
    return figure
