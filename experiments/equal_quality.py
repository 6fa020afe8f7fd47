"""Whether the fast training is as good as the plain one: log p(x) after equal training, in pairs.

Both ways of a pair start from the same weights and see all images as often, each with random
numbers of its own. The learning rate of both falls to zero: at a constant one the weights end in a
noise that hides what is compared. Trainings still differ by chance, so that one pair says little:
the interval is over pairs.

    python -m experiments.equal_quality
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from experiments.contenders import fresh_weights, ours, plain_training
from pyro_vae.checkpoints import load_tensors, save_tensors, using
from pyro_vae.data import Dataset
from pyro_vae.errors import InputError
from pyro_vae.files import hold_folder
from pyro_vae.importance import log_likelihood
from pyro_vae.intervals import mean_interval
from pyro_vae.networks import State, join_appendix, resolve_precision
from pyro_vae.parallel import seed_of
from pyro_vae.plots import COLOURS, save_figure
from pyro_vae.psis import khat_threshold
from pyro_vae.refined import Refined
from pyro_vae.script import (
    begin,
    check_least,
    leave_out,
    make_parser,
    result_folder,
    run,
    save_metrics,
)
from pyro_vae.training import fit

SEED = 6  # of the scores; the first weights of pair n are drawn with n
GOAL = 0.3  # nats: how far apart the two may be
NUM_SAMPLES = 1000


def trained_plainly(images: Tensor, start: State, settings: dict, pair: int) -> State:
    """Weights after the appendix's own loop from `start`."""
    work = plain_training(images, start, decay_epochs=settings["epochs"])
    torch.manual_seed(seed_of(pair, 1))  # not the numbers that the weights were drawn from
    for _ in tqdm(range(settings["epochs"]), desc=f"pair {pair}, plain", unit="epoch"):
        state = work()
    return state


def trained_by_svi(images: Tensor, start: State, settings: dict, pair: int) -> State:
    """Weights after this package's training from `start`."""
    print(f"pair {pair}, ours")
    model, guide = ours(start, settings["precision"])
    epochs, seed = settings["epochs"], seed_of(pair, 2)
    fit(model, guide, (images,), epochs=epochs, decay=True, seed=seed)
    return join_appendix(model.decoder.state_dict(), guide.encoder.state_dict())


WAYS = {"plain": trained_plainly, "ours": trained_by_svi}


def scores(way: str, pair: int, data: Dataset, settings: dict) -> dict[str, Tensor]:
    """Train one way, then `log_p` of each test image, nats, and its `khat`: `(B,)`, in float64.

    By NUM_SAMPLES of the refined guide, whose answer hardly depends on the encoder's quality.
    """
    start = fresh_weights(settings["latent_dim"], pair)
    model, guide = ours(WAYS[way](data.train_images, start, settings, pair))
    x = data.test_images[: settings["images"]]
    progress = f"pair {pair}, {way}: refined log p"
    refined = Refined(model, guide)
    found = log_likelihood(model, refined, x, num_samples=NUM_SAMPLES, seed=SEED, progress=progress)
    return {"log_p": torch.from_numpy(found.value), "khat": torch.from_numpy(found.khat)}


def read_scores(path: Path, settings: dict) -> dict[str, Tensor]:
    """The scores that an equal run has left at `path`; InputError if another has."""
    content = load_tensors(path, "scores", {"log_p", "khat", "settings"}, "delete it")
    if content["settings"] != settings:
        raise InputError(f"{path} is of a run with other options: delete it, or leave out --resume")
    found = {name: content[name] for name in ("log_p", "khat")}
    with using(path, "delete it"):
        for tensor in found.values():
            if tensor.shape != (settings["images"],) or tensor.isnan().any():
                raise InputError("other scores")
    return found


def compared(plain: np.ndarray, ours: np.ndarray) -> dict:
    """Of log p `(pairs, B)` of both: the difference of each pair, and over pairs.

    The interval of a pair is over images; that over pairs is Student's, of independent trainings at
    these images.
    """
    difference = (ours - plain).mean(1)
    over_pairs = mean_interval(difference)
    over_pairs["pairs"] = over_pairs.pop("images")
    return {
        "plain": plain.mean(1).tolist(),
        "ours": ours.mean(1).tolist(),
        "pairs": [mean_interval(row) for row in ours - plain],
        "ours_minus_plain": over_pairs,
        "sd": float(difference.std(ddof=1)),
        "goal": GOAL,
        "verdict": verdict(*over_pairs["ci95"]),
    }


def verdict(low: float, high: float) -> str:
    """What an interval of the difference says of both being equal within GOAL."""
    if low > -GOAL and high < GOAL:
        return f"equal within {GOAL} nats"
    if low > GOAL or high < -GOAL:
        return f"further apart than {GOAL} nats"
    return f"not shown to be equal within {GOAL} nats, nor to be further apart: more pairs may tell"


def quality_figure(metrics: dict) -> Figure:
    """Each pair's two scores, and the differences with what was to be shown."""
    figure = Figure(figsize=(9, 3.8))
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2)
    both = np.array([metrics["plain"], metrics["ours"]])
    left.plot([0, 1], both, "-", color="0.7", lw=1)
    left.plot(np.zeros(both.shape[1]), both[0], "o", color="0.4")
    left.plot(np.ones(both.shape[1]), both[1], "o", color=COLOURS["posterior"])
    left.set_xticks([0, 1], ["plain PyTorch", "ours"])
    left.set(xlim=(-0.4, 1.4), ylabel="refined log p(x), nats per image", title="Each pair")
    found = metrics["ours_minus_plain"]
    place = np.arange(both.shape[1])
    images = np.array([row["ci95"] for row in metrics["pairs"]])
    right.axhspan(-GOAL, GOAL, color="0.9", label=f"within {GOAL} nats")
    right.vlines(place, *images.T, color=COLOURS["posterior"], lw=1.5)
    right.plot(place, both[1] - both[0], "o", color=COLOURS["posterior"], label="a pair (95%)")
    mean = both.shape[1] + 0.5
    right.vlines(mean, *found["ci95"], color="k", lw=2)
    right.plot(mean, found["mean"], "ks", label="over pairs (95%)")
    right.axhline(0, color="0.3", lw=0.8)
    right.set_xticks([*place, mean], [*map(str, place), "mean"])
    right.set(xlabel="pair", ylabel="ours minus plain, nats per image", title="Differences")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(
        f"The same quality? {metrics['epochs']} epochs each, {metrics['images']:,} test images"
    )
    return figure


def main() -> None:
    """Train every pair both ways, score both, draw the figure and write the metrics."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=20, epochs=5)
    parser.add_argument("--pairs", type=int, default=6, metavar="N", help="of trainings")
    parser.add_argument("--images", type=int, default=500, metavar="N", help="test images")
    args = parser.parse_args()
    check_least("--pairs", args.pairs, 2)
    check_least("--images", args.images, 2)
    check_least("--epochs", args.epochs, 1)
    own = ("batch_size", "learning_rate", "seed", "shards", "checkpoint", "train", "device")
    leave_out(parser, args, *own)
    data = begin(
        args,
        "equal quality: about 10 minutes a pair on 2 cores. --resume keeps the scores that a "
        "stopped run has written.",
    )
    folder = result_folder(args, "equal_quality", 20)
    hold_folder(folder)
    settings = {
        "dataset": data.name,
        "latent_dim": args.latent_dim,
        "images": min(args.images, len(data.test_images)),
        "epochs": args.epochs,
        "precision": resolve_precision(getattr(args, "precision", "auto")),
    }
    found: dict[str, list[dict[str, Tensor]]] = {way: [] for way in WAYS}
    for pair in range(args.pairs):
        for way in WAYS:
            path = folder / f"{way}_{pair}.training.pt"
            if args.resume and path.exists():
                one = read_scores(path, settings)
            else:
                one = scores(way, pair, data, settings)
                save_tensors(path, one | {"settings": settings})
            found[way].append(one)
    log_p, khat = (
        {way: torch.stack([one[name] for one in rows]).numpy() for way, rows in found.items()}
        for name in ("log_p", "khat")
    )
    metrics = settings | compared(log_p["plain"], log_p["ours"])
    metrics["share_trusted"] = {
        way: float((values <= khat_threshold(NUM_SAMPLES)).mean()) for way, values in khat.items()
    }
    low, high = metrics["ours_minus_plain"]["ci95"]
    print(
        f"log p(x) after {args.epochs} epochs, ours minus plain: "
        f"{metrics['ours_minus_plain']['mean']:+.2f} nats ({low:+.2f} to {high:+.2f}); "
        f"{metrics['verdict']}; k-hat is low enough for "
        f"{min(metrics['share_trusted'].values()):.1%} of the images or more"
    )
    save_figure(quality_figure(metrics), folder / "equal_quality.png", data.name)
    save_metrics(folder / "metrics.json", metrics, args, data, settings)
    print(f"figure and metrics.json in {folder}")


if __name__ == "__main__":
    run(main)
