"""How many seconds until the appendix's ELBO? Its constant rate, and one cycle of a few epochs.

The appendix trains for ten epochs at a rate of 0.001. A rate that rises to several times as much
and falls again, `fit(schedule="one_cycle")`, reaches the same ELBO in fewer epochs, and an epoch
takes less time here. All trainings of a seed start from the same weights. Seconds are those of the
training alone: its epochs times an epoch's seconds, which are the least of all trainings' medians,
since other work on the machine only ever adds to them.
The ELBO is that of all test images, one sample each. It could favour a guide that is narrow, so
log p(x) by the refined guide must be reached too. The same code scores all trainings. Two things
make the difference: an epoch's seconds, and the schedule, which plain PyTorch may use as well.

    python -m experiments.time_to_quality --latent-dim 20
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.benchmark.contenders import fresh_weights, ours, plain_training
from experiments.cli import (
    TRAINING,
    announce_and_load,
    check_at_least,
    folder_name,
    make_parser,
    run,
)
from experiments.kept import Kept, made_once, stacked
from experiments.record import Results
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.networks.appendix import State, join_appendix
from pyro_vae.networks.precision import resolve_precision, without_tf32
from pyro_vae.seeds import derive_seed
from pyro_vae.training.fit import fit
from pyro_vae.vae import Vae

PLAIN_EPOCHS = 10  # the coursework's
BUDGETS = (2, 3, 4, 5)  # epochs of one cycle
BATCH = 50  # images in a step of one cycle: half of the appendix's, chosen on held-out images
SEED = 28  # of the scores; the first weights of training n are drawn with n
SCORES = {"elbo": "test ELBO", "log_p": "refined log p(x)"}


def plain(data: Dataset, settings: dict, seed: int) -> Kept:
    """Train by the appendix's own loop; return the seconds and scores after each epoch."""
    images = data.train_images.to(settings["device"])
    work = plain_training(images, fresh_weights(settings["latent_dim"], seed), keep=True)
    torch.manual_seed(derive_seed(seed, 1))
    times, found = [], []
    for _ in range(settings["plain_epochs"]):
        start = time.perf_counter()
        with without_tf32(images):
            state = work()
        times.append(time.perf_counter() - start)
        found.append(scores(state, data, settings))
    return _rows(found, times)


def one_cycle(data: Dataset, settings: dict, epochs: int, seed: int) -> Kept:
    """Train by `fit` for a budget of epochs; return the seconds and scores at its end, `(1,)`."""
    start = fresh_weights(settings["latent_dim"], seed)
    model, guide = ours(start, settings["precision"], settings["device"])
    options = {"batch_size": settings["batch_size"], "learning_rate": settings["peak"]}
    options |= {"schedule": "one_cycle", "seed": seed}
    images = data.train_images.to(settings["device"])
    ends = [time.perf_counter()]
    options["on_epoch"] = lambda record: ends.append(time.perf_counter())
    fit(model, guide, (images,), epochs=epochs, **options)
    state = join_appendix(model.decoder.state_dict(), guide.encoder.state_dict())
    return _rows([scores(state, data, settings)], np.diff(ends))


def _rows(found: list[dict[str, float]], times: Sequence[float]) -> Kept:
    """Put the scores after the last epochs beside the seconds until each, from their `times`."""
    last = torch.arange(len(times) - len(found), len(times)) + 1
    columns = {name: torch.tensor([row[name] for row in found]) for name in SCORES}
    return columns | {"seconds": last * float(np.median(times))}


def scores(state: State, data: Dataset, settings: dict) -> dict[str, float]:
    """Return the mean `elbo` of all test images, and the mean `log_p` of some, nats per image."""
    vae = Vae(*ours(state, settings["precision"], settings["device"]))
    options = {"seed": SEED, "progress": False}
    x = data.test_images.to(settings["device"])
    elbo = log_likelihood(vae.model, vae.guide, x, num_samples=1, **options).elbo
    chosen = random_positions(x, settings["images"], SEED)
    log_p = vae.refined().log_likelihood(x[chosen], se=0.1, **options).value
    return {"elbo": float(elbo.mean()), "log_p": float(log_p.mean())}


def measure(data: Dataset, settings: dict, seeds: int, folder: Path, resume: bool) -> dict:
    """Train every way from every seed's weights; what is finished is kept in `folder`."""
    kept = made_once(folder, settings, resume, {"seconds", *SCORES})
    ways = {"plain": (partial(plain, data, settings), settings["plain_epochs"])}
    ways |= {str(epochs): (partial(one_cycle, data, settings, epochs), 1) for epochs in BUDGETS}
    found: dict[str, list[Kept]] = {way: [] for way in ways}
    for seed in range(seeds):
        for way, (train, size) in ways.items():
            print(f"training {seed}: {_label(way)}")
            found[way].append(kept(f"{way}_{seed}", partial(train, seed), (size,)))
    return compared({way: stacked(rows) for way, rows in found.items()})


def compared(ways: dict[str, dict[str, np.ndarray]]) -> dict:
    """Return each way's scores and seconds, and how much sooner the plain way's are reached.

    Arrays are `(seeds, epochs)`; intervals are over seeds, in pairs.
    """
    last = {name: value[:, -1] for name, value in ways["plain"].items()}
    budgets = [way for way in ways if way != "plain"]

    def least(some: list[str]) -> float:
        return min(float(ways[way]["seconds"][:, -1].min()) / _epochs(way) for way in some)

    an_epoch = {"plain": least(["plain"]), "one_cycle": least(budgets)}
    rows = {way: {name: ways[way][name].tolist() for name in SCORES} for way in ways}
    rows["plain"]["seconds"] = [an_epoch["plain"] * e for e in range(1, PLAIN_EPOCHS + 1)]
    for way in budgets:
        rows[way]["seconds"] = [an_epoch["one_cycle"] * int(way)]
        for name in SCORES:
            rows[way][f"{name}_minus_plain"] = _over_seeds(ways[way][name][:, -1] - last[name])
    metrics = {"ways": rows, "seconds_an_epoch": an_epoch}
    metrics["reached"] = {name: reached(rows, [name]) for name in SCORES}
    return metrics | {"both_reached": reached(rows, list(SCORES))}


def reached(rows: dict[str, dict], scores: list[str]) -> dict:
    """Return the fewest epochs whose scores are all those of the plain way, and how much sooner.

    A budget reaches a score where its mean over the seeds does. So does the plain way, which may
    reach that of its last epoch before.
    """
    means = {
        way: {name: np.mean(row[name], axis=0) for name in scores} for way, row in rows.items()
    }
    goals = {name: values[-1] for name, values in means["plain"].items()}
    there = {
        way: np.flatnonzero(np.all([values[name] >= goals[name] for name in scores], axis=0))
        for way, values in means.items()
    }
    plain = int(there["plain"][0])
    epochs = min((int(way) for way in rows if way != "plain" and len(there[way])), default=None)
    times = epochs and rows["plain"]["seconds"][plain] / rows[str(epochs)]["seconds"][-1]
    return {"epochs": epochs, "plain_epochs": plain + 1, "times_as_fast": times}


def _epochs(way: str) -> int:
    return PLAIN_EPOCHS if way == "plain" else int(way)


def _over_seeds(values: np.ndarray) -> dict:
    interval = mean_interval(values)
    interval["seeds"] = interval.pop("images")
    return interval


def _label(way: str) -> str:
    if way == "plain":
        return "plain PyTorch, constant rate"
    return f"one cycle of {way} epochs"


def as_text(metrics: dict) -> str:
    """Return the table for a terminal: means over the seeds."""
    lines = [f"{'':<30}{'seconds':>9}{'ELBO':>10}{'log p(x)':>10}  ELBO - plain, log p(x) - plain"]
    for way, row in metrics["ways"].items():
        seconds = row["seconds"][-1]
        elbo, log_p = (np.array(row[name])[:, -1].mean() for name in SCORES)
        line = f"{_label(way):<30}{seconds:>9.0f}{elbo:>10.2f}{log_p:>10.2f}"
        for name in SCORES if way != "plain" else ():
            low, high = row[f"{name}_minus_plain"]["ci95"]
            line += f"  {low:+.2f} to {high:+.2f}"
        lines.append(line)
    return "\n".join([*lines, _finding(metrics)])


def figure(metrics: dict) -> Figure:
    """Draw the scores against seconds: each epoch of the plain way, each budget of one cycle."""
    figure = Figure(figsize=(10, 4.4))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, 2)
    for ax, (score, title) in zip(axes, SCORES.items(), strict=True):
        _draw(ax, metrics["ways"], score)
        ax.set(xlabel="seconds of training", ylabel="nats per image", title=title)
    axes[0].legend(loc="lower right")
    figure.suptitle(_finding(metrics))
    return figure


def _finding(metrics: dict) -> str:
    found = metrics["both_reached"]
    if found["epochs"] is None:
        return "No budget reaches ELBO and log p(x) of ten epochs at a constant rate"
    return (
        f"One cycle of {found['epochs']} epochs ends where ten at a constant rate do, "
        f"{found['times_as_fast']:.1f} times as fast, d = {metrics['latent_dim']}"
    )


def _draw(ax: Axes, ways: dict, score: str) -> None:
    """Draw one score of all trainings; the axis leaves out the first, steep epoch."""
    goal = np.mean([values[-1] for values in ways["plain"][score]])
    ax.axhline(goal, color="0.3", lw=0.8, ls=":")
    for number, line in enumerate(ways["plain"][score]):
        label = None if number else _label("plain")
        ax.plot(ways["plain"]["seconds"], line, "o-", ms=3, color="0.5", label=label)
    lowest = [values[1:] for values in ways["plain"][score]]
    for number, (way, row) in enumerate((w, r) for w, r in ways.items() if w != "plain"):
        values = np.array(row[score])[:, -1]
        seconds = row["seconds"] * len(values)
        label = None if number else "one cycle, of so many epochs"
        ax.plot(seconds, values, "D", ms=5, color=COLOURS["posterior"], label=label)
        above = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": 10}
        ax.annotate(way, (seconds[0], values.max()), **above)
        lowest.append(values)
    bottom = min(np.min(values) for values in lowest if len(values))
    ax.set(ylim=(bottom - 1, None), xlim=(0, None))


def options() -> argparse.Namespace:
    """Parse and check the options of the script."""
    fixed = (*(name for name in TRAINING if name != "precision"), "checkpoint", "train")
    parser = make_parser(__doc__.splitlines()[0], fixed=fixed)
    parser.add_number("--seeds", 3, "trainings of each kind")
    parser.add_number("--images", 200, "test images whose log p(x) is estimated")
    parser.add_argument(
        "--peak",
        type=float,
        default=6e-3,
        metavar="X",
        help="highest learning rate of a cycle (default: %(default)s)",
    )
    args = parser.parse_args()
    check_at_least("--seeds", args.seeds, 2)
    check_at_least("--images", args.images, 2)
    return args


def main() -> None:
    """Train in all ways, draw the figure and write the metrics."""
    args = options()
    data = announce_and_load(
        args,
        f"time to the appendix's ELBO: {args.seeds} trainings of ten epochs in plain PyTorch, and "
        f"of {', '.join(map(str, BUDGETS))} epochs by one cycle. About 25 minutes a seed on one "
        "core. --resume keeps what a stopped run has finished.",
    )
    results = Results(args, data, folder_name(args, "time_to_quality"))
    settings = {
        "dataset": data.name,
        "latent_dim": args.latent_dim,
        "images": min(args.images, len(data.test_images)),
        "plain_epochs": PLAIN_EPOCHS,
        "peak": args.peak,
        "batch_size": BATCH,
        "device": args.device,
        "precision": resolve_precision(args.precision, args.device),
    }
    results.training = settings
    metrics = settings | measure(data, settings, args.seeds, results.folder, args.resume)
    print(as_text(metrics))
    results.draw(time_to_quality=figure(metrics))
    for name, value in metrics.items():
        results.add(name, value)
    results.finish()
    print(f"figure and metrics.json in {results.folder}")


if __name__ == "__main__":
    run(main)
