"""Whether the fast training is as good as the plain one: log p(x) after equal training, in pairs.

The plain way has the KL term of the bound in closed form, as the appendix does. Ours samples it
(Trace_ELBO), which adds noise, or has it in closed form too (TraceMeanField_ELBO). Both are
compared, to tell what the fast training costs from what sampling the KL costs.

The trainings of a pair start from the same weights and see all images equally often, each with
random numbers of its own. Every learning rate falls to zero, since the noise of a constant one
would hide what is compared. Trainings still differ by chance, so the interval is over pairs.

    python -m experiments.equal_quality
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from pyro.infer import ELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor
from tqdm import tqdm

from experiments.benchmark.contenders import fresh_weights, ours, plain_training
from experiments.cli import (
    TRAINING,
    announce_and_load,
    check_at_least,
    folder_name,
    make_parser,
    run,
)
from experiments.kept import made_once, stacked
from experiments.record import Results
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.likelihood.psis import passes
from pyro_vae.networks.appendix import State, join_appendix
from pyro_vae.networks.precision import resolve_precision, without_tf32
from pyro_vae.seeds import derive_seed
from pyro_vae.training.fit import fit
from pyro_vae.vae import Vae

SHADES = {"plain": "0.4", "sampled": COLOURS["guide"], "closed": COLOURS["posterior"]}
SEED = 6  # of the scores; the first weights of pair n are drawn with n
GOAL = 0.3  # nats: the difference that still counts as equal quality
NUM_SAMPLES = 1000


def trained_plainly(images: Tensor, start: State, settings: dict, pair: int) -> State:
    """Train by the appendix's own loop from `start`, and return the weights."""
    work = plain_training(images, start, decay_epochs=settings["epochs"])
    torch.manual_seed(derive_seed(pair, 1))  # not the numbers that the weights were drawn from
    with without_tf32(images):  # plain is float32, on a GPU too
        for _ in tqdm(range(settings["epochs"]), desc=f"pair {pair}, plain", unit="epoch"):
            state = work()
    return state


def trained_by_svi(
    images: Tensor, start: State, settings: dict, pair: int, *, elbo: ELBO, number: int
) -> State:
    """Train by `fit` from `start`, and return the weights; `pair` and `number` make the seed."""
    print(f"pair {pair}, {type(elbo).__name__}")
    model, guide = ours(start, settings["precision"], images.device)
    epochs, seed = settings["epochs"], derive_seed(pair, number)
    fit(model, guide, (images,), epochs=epochs, schedule="cosine", elbo=elbo, seed=seed)
    return join_appendix(model.decoder.state_dict(), guide.encoder.state_dict())


WAYS = {
    "plain": trained_plainly,
    "sampled": partial(trained_by_svi, elbo=Trace_ELBO(), number=2),
    "closed": partial(trained_by_svi, elbo=TraceMeanField_ELBO(), number=3),
}
LABELS = {
    "plain": "plain PyTorch",
    "sampled": "ours, KL sampled",
    "closed": "ours, KL in closed form",
}


def scores(way: str, pair: int, data: Dataset, settings: dict) -> dict[str, Tensor]:
    """Train one way; return `log_p`, nats, and `khat` of each test image, `(B,)` in float64.

    The refined guide scores, because its answer hardly depends on the encoder's quality.
    """
    start = fresh_weights(settings["latent_dim"], pair)
    device = settings["device"]
    state = WAYS[way](data.train_images.to(device), start, settings, pair)
    refined = Vae(*ours(state, device=device)).refined()
    x = data.test_images[random_positions(data.test_images, settings["images"], SEED)]
    progress = f"pair {pair}, {way}: refined log p"
    result = refined.log_likelihood(x, num_samples=NUM_SAMPLES, seed=SEED, progress=progress)
    return {"log_p": torch.from_numpy(result.value), "khat": torch.from_numpy(result.khat)}


def all_scores(pairs: int, data: Dataset, settings: dict, folder: Path, resume: bool) -> dict:
    """Return `log_p` and `khat`, `(pairs, B)` each, of every way.

    The scores of a training are kept in `folder` as soon as they are known (`experiments.kept`).
    """
    kept = made_once(folder, settings, resume, {"log_p", "khat"})
    shape = (settings["images"],)
    results: dict[str, list[dict[str, Tensor]]] = {way: [] for way in WAYS}
    for pair in range(pairs):
        for way in WAYS:
            make = partial(scores, way, pair, data, settings)
            results[way].append(kept(f"{way}_{pair}", make, shape))
    return {way: stacked(of_way) for way, of_way in results.items()}


def compared(scores: dict[str, dict[str, np.ndarray]]) -> dict:
    """Return each way's means over images and its difference from plain.

    `scores` has the `log_p` and `khat`, `(pairs, B)` each, of every way.
    """
    plain = scores["plain"]["log_p"]
    ways = {}
    for way, result in scores.items():
        ways[way] = {
            "log_p": result["log_p"].mean(1).tolist(),  # of each pair
            "share_trusted": float(passes(result["khat"], NUM_SAMPLES).mean()),
        }
        if way != "plain":
            ways[way]["minus_plain"] = minus_plain(result["log_p"], plain)
    return {"goal": GOAL, "ways": ways}


def minus_plain(log_p: np.ndarray, plain: np.ndarray) -> dict:
    """Return the differences of log p, `(pairs, B)`, from the plain way's.

    The interval of a pair is over images. The interval over pairs is Student's, for independent
    trainings and these images.
    """
    difference = (log_p - plain).mean(1)
    over_pairs = mean_interval(difference)
    over_pairs["pairs"] = over_pairs.pop("images")
    return over_pairs | {
        "sd": float(difference.std(ddof=1)),
        "of_pairs": [mean_interval(row) for row in log_p - plain],
        "verdict": verdict(*over_pairs["ci95"]),
    }


def verdict(low: float, high: float) -> str:
    """Say whether an interval of the difference shows equality within GOAL."""
    if low > -GOAL and high < GOAL:
        return f"equal within {GOAL} nats"
    if low > GOAL or high < -GOAL:
        return f"further apart than {GOAL} nats"
    return f"not shown to be equal within {GOAL} nats, nor to be further apart: more pairs may tell"


def as_text(metrics: dict) -> str:
    """Return the verdicts for a terminal."""
    lines = []
    for way, row in metrics["ways"].items():
        if way != "plain":
            mean, (low, high) = row["minus_plain"]["mean"], row["minus_plain"]["ci95"]
            lines.append(
                f"{LABELS[way]}, log p(x) minus plain after {metrics['epochs']} epochs: "
                f"{mean:+.2f} nats ({low:+.2f} to {high:+.2f}); {row['minus_plain']['verdict']}"
            )
    trusted = min(row["share_trusted"] for row in metrics["ways"].values())
    lines.append(f"k-hat is low enough for {trusted:.1%} of the images or more")
    return "\n".join(lines)


def quality_figure(metrics: dict) -> Figure:
    """Draw the scores of each pair, and the differences from plain beside the goal."""
    figure = Figure(figsize=(11, 4.2))
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.4])
    ways = metrics["ways"]
    left.plot(range(len(ways)), [row["log_p"] for row in ways.values()], "-", color="0.8", lw=1)
    right.axhspan(-GOAL, GOAL, color="0.9", label=f"within {GOAL} nats")
    right.axhline(0, color="0.3", lw=0.8)
    pairs = len(ways["plain"]["log_p"])
    place = np.arange(pairs)
    for x, (way, row) in enumerate(ways.items()):
        left.plot(np.full(pairs, x), row["log_p"], "o", color=SHADES[way])
        if way == "plain":
            continue
        difference, aside = row["minus_plain"], 0.3 * x - 0.45
        ends = np.array([pair["ci95"] for pair in difference["of_pairs"]])
        means = [pair["mean"] for pair in difference["of_pairs"]]
        right.vlines(place + aside, *ends.T, color=SHADES[way], lw=1.5)
        right.plot(place + aside, means, "o", color=SHADES[way], label=LABELS[way])
        right.vlines(pairs + 0.5 + aside, *difference["ci95"], color=SHADES[way], lw=3)
        right.plot(pairs + 0.5 + aside, difference["mean"], "D", ms=8, color=SHADES[way], mec="k")
    left.set_xticks(range(len(ways)), [LABELS[way].replace(", ", ",\n") for way in ways])
    left.set(xlim=(-0.4, len(ways) - 0.6), title="Each pair")
    left.set_ylabel("refined log p(x), nats per image")
    right.set_xticks([*place, pairs + 0.5], [*map(str, place), "mean"])
    right.set(xlabel="pair", ylabel="ours minus plain, nats per image")
    right.set_title("Differences, with 95% intervals (diamonds: over pairs)")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(
        f"The same quality? {metrics['epochs']} epochs each, {metrics['images']:,} test images"
    )
    return figure


def options() -> argparse.Namespace:
    """Parse and check the options of the script."""
    own = [name for name in TRAINING if name not in ("epochs", "precision")]
    fixed = (*own, "checkpoint", "train")
    parser = make_parser(__doc__.splitlines()[0], latent_dim=20, fixed=fixed, epochs=5)
    parser.add_number("--pairs", 8, "pairs of trainings")
    parser.add_number("--images", 200, "test images that are scored")
    args = parser.parse_args()
    check_at_least("--pairs", args.pairs, 2)
    check_at_least("--images", args.images, 2)
    check_at_least("--epochs", args.epochs, 1)
    return args


def main() -> None:
    """Train every pair in all ways, score them, draw the figure and write the metrics."""
    args = options()
    data = announce_and_load(
        args,
        f"equal quality: trainings in {args.pairs} pairs, plain and by this package, compared. "
        "About 15 minutes a pair on 2 cores, 1 to 2 on a GPU. --resume keeps the scores that a "
        "stopped run has written.",
    )
    results = Results(args, data, folder_name(args, "equal_quality", 20))
    settings = {
        "dataset": data.name,
        "latent_dim": args.latent_dim,
        "images": min(args.images, len(data.test_images)),
        "epochs": args.epochs,
        "num_samples": NUM_SAMPLES,
        "device": args.device,
        "precision": resolve_precision(args.precision, args.device),
    }
    results.training = settings
    scored = all_scores(args.pairs, data, settings, results.folder, args.resume)
    metrics = settings | compared(scored)
    print(as_text(metrics))
    results.draw(equal_quality=quality_figure(metrics))
    for name, value in metrics.items():
        results.add(name, value)
    results.finish()
    print(f"figure and metrics.json in {results.folder}")


if __name__ == "__main__":
    run(main)
