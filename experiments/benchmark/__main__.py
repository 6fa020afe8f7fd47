"""Speed, side by side: training and log p(x) against the appendix written plainly in PyTorch.

Every contender runs in a process of its own, as its user would run it, renewed every few rounds;
they take turns, so that what else the machine does falls on all alike. Beyond speed: how far this
package is from what the processor can do, and how cost grows with the work. That both come to the
same quality is for `experiments.equal_quality` to show.

    python -m experiments.benchmark
"""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from experiments.benchmark.contenders import (
    fresh_weights,
    our_training,
)
from experiments.benchmark.growth import REST, SEED, growth
from experiments.benchmark.machine import distance
from experiments.benchmark.scaling import scaling
from experiments.benchmark.speed import TITLES, speed
from experiments.cli import (
    TRAINING,
    announce_and_load,
    check_at_least,
    folder_name,
    make_parser,
    reject_options,
    run,
)
from experiments.record import Results
from pyro_vae.analysis.plots import COLOURS


def as_text(metrics: dict) -> str:
    """The table that is printed: each contender beside the plain way, and the machine."""
    lines = []
    for key, title in TITLES.items():
        lines.append(f"{title:<28}{'images/s':>10}{'quartiles':>20}{'faster':>9}{'MiB':>8}")
        for name, row in metrics["speed"][key].items():
            low, high = row["quartiles"]
            lines.append(
                f"  {name:<26}{row['images_a_second']:>10.1f}{f'{low:.1f} to {high:.1f}':>20}"
                f"{row['times_as_fast']:>8.2f}x{row['peak_mib'] or math.nan:>8.0f}"
            )
    peak = metrics["distance"]["matrix_product_gflops"]
    lines.append(
        f"matrix products: {peak['float32']:.0f} GFLOP/s in float32, {peak['bfloat16']:.0f} in "
        f"bfloat16; training: {metrics['distance']['training']['gflops']:.0f}, "
        f"log p(x): {metrics['distance']['log_p_100']['gflops']:.0f}"
    )
    if metrics["scaling"]:
        lines.append("processes x threads         train, s   score, s")
    for setting, row in metrics["scaling"].items():
        medians = (row[part]["median"] for part in ("train_seconds", "score_seconds"))
        lines.append(f"  {setting:<24}" + "".join(f"{median:>11.1f}" for median in medians))
    return "\n".join(lines)


def benchmark_figure(metrics: dict) -> Figure:
    """Times as fast as the plain way; how seconds and memory grow."""
    figure = Figure(figsize=(13, 6.6))
    figure.set_layout_engine("constrained")
    above, below = figure.subplots(2, 3)
    for ax, (key, title) in zip(above, TITLES.items(), strict=True):
        rows = metrics["speed"][key]
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
    for ax, (what, rows) in zip(below, metrics["growth"].items(), strict=True):
        numbers, seconds = [row[what] for row in rows], [row["seconds"] for row in rows]
        ax.plot(numbers, seconds, "o-", color=COLOURS["posterior"])
        if what != "latent dimensions":  # of which the first layer alone has more work
            line = [seconds[0] * number / numbers[0] for number in numbers]
            ax.plot(numbers, line, ":", color="0.4", zorder=0, label="in proportion")
            ax.legend(loc="lower right")
        memory = ax.twinx()
        peaks = [row["peak_mib"] or 0 for row in rows]
        memory.plot(numbers, peaks, "s--", color=COLOURS["guide"])
        memory.set(ylim=(0, 2 * max(1, *peaks)))
        memory.set_ylabel("peak memory, MiB (dashed)", color=COLOURS["guide"])
        memory.grid(False)
        ax.set(xscale="log", yscale="log")
        ax.set_xticks(numbers, [f"{number:,}" for number in numbers])
        ax.yaxis.set_major_locator(LogLocator(subs=[1, 2, 5]))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.set(ylim=(min(seconds) / 3, 3 * max(seconds)), xlabel=f"{what} {REST[what]}")
        ax.set_ylabel("seconds", color=COLOURS["posterior"])
        ax.set_title(f"log p(x), as the {what} grow")
    figure.suptitle("Speed, each contender in a process of its own, taking turns")
    return figure


def main() -> None:
    """Run the contenders in turns, draw the figure and write the metrics."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=20)
    parser.add_argument("--rounds", type=int, default=9, help="of each contender")
    parser.add_argument(
        "--images", type=int, default=1000, metavar="N", help="test images, for several processes"
    )
    args = parser.parse_args()
    check_at_least("--rounds", args.rounds, 1)
    check_at_least("--images", args.images, 2)
    reject_options(args, *TRAINING, "checkpoint", "train", "resume")
    data = announce_and_load(
        args,
        "benchmark: about 30 minutes on 2 cores, 6 on one GPU. Leave the machine to it.",
    )
    name = "benchmark" if args.device == "cpu" else "benchmark_gpu"
    results = Results(args, data, folder_name(args, name, 20))
    results.training = {"epochs": 1}
    start = fresh_weights(args.latent_dim, SEED)
    # weights that are no longer random
    state = our_training(data.train_images.to(args.device), start, "auto")()
    state = {name: w.cpu() for name, w in state.items()}
    x = data.test_images
    metrics = {
        "speed": speed(x, state, args.rounds, args.device),
        "distance": distance(x, state, args.device),
        "growth": growth(x, state, args.device),
        "scaling": scaling(args, args.images, min(3, args.rounds)),
    }
    print(as_text(metrics))
    results.draw(benchmark=benchmark_figure(metrics))
    for part, measured in metrics.items():
        results.add(part, measured)
    print(f"figure and metrics.json in {results.folder}")


if __name__ == "__main__":
    run(main)
