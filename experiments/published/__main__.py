"""A published table reproduced, and what no table has: how far its estimator falls short.

Burda, Grosse and Salakhutdinov (2016) trained a VAE and importance weighted autoencoders on
binarised MNIST, and scored them by 5,000 samples of the encoder. Here the same networks are trained
as a Pyro program, by `fit`, and scored in the same way. Then the refined guide says what log p(x)
is, and whether the three models rank alike by both. Calibration on simulated images says whether
each guide's draws are draws of the posterior.

    python -m experiments.published --resume
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.cli import TRAINING, announce_and_load, check_at_least, make_parser, run
from experiments.kept import Kept, made_once
from experiments.published import CELLS, EPOCHS_PUBLISHED, NUM_SAMPLES, SEED
from experiments.published.training import trained
from experiments.record import Results
from pyro_vae.analysis.calibration import Calibration, calibrate
from pyro_vae.analysis.plots import COLOURS
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.likelihood.intervals import mean_interval, standard_error_of_mean
from pyro_vae.likelihood.psis import passes
from pyro_vae.storage.files import check_folder
from pyro_vae.vae import Vae

SE = 0.1  # nats, asked of the refined guide


def binarised(data: Dataset) -> Tensor:
    """Return the test images, each pixel drawn once: white with its grey level's probability."""
    rng = torch.Generator().manual_seed(SEED)
    return torch.bernoulli(data.test_images.flatten(1), generator=rng)


def by_samples(vae: Vae, x: Tensor, cell: str) -> Kept:
    """Score images as the table does: `log_p` and `khat`, `(B,)`."""
    progress = f"{cell}: {NUM_SAMPLES:,} samples"
    found = vae.log_likelihood(x, num_samples=NUM_SAMPLES, seed=SEED, progress=progress)
    return {"log_p": torch.from_numpy(found.value), "khat": torch.from_numpy(found.khat)}


def by_refined(vae: Vae, x: Tensor, cell: str) -> Kept:
    """Score images by the refined guide: `log_p`, its `se`, and `trusted`, `(B,)`."""
    found = vae.refined().log_likelihood(x, se=SE, seed=SEED, progress=f"{cell}: refined")
    arrays = {"log_p": found.value, "se": found.se, "trusted": found.trusted().astype(float)}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def compared(
    samples: dict[str, np.ndarray], refined: dict[str, np.ndarray], some: np.ndarray
) -> dict:
    """Return a model's scores by both ways; `refined` has the images at the positions `some`."""
    differences = refined["log_p"] - samples["log_p"][some]
    short = mean_interval(differences)
    return {
        "log_p": mean_interval(samples["log_p"]),
        "share_passing": float(passes(samples["khat"], NUM_SAMPLES).mean()),
        "refined": mean_interval(refined["log_p"])
        | {
            "mc_se": standard_error_of_mean(refined["se"]),
            "trusted": float(refined["trusted"].mean()),
        },
        "samples_on_the_same": mean_interval(samples["log_p"][some]),
        "falls_short_by": short,
        # what the refined guide would say of all images: its own are some of them
        "refined_of_all": float(samples["log_p"].mean() + short["mean"]),
    }


def calibrated(vae: Vae, x: Tensor, cell: str) -> dict[str, Calibration]:
    """Rank simulated latents among draws of the encoder, and among the refined guide's."""
    options = {"seed": SEED, "progress": f"{cell}: calibration"}
    refined = vae.refined().guide
    return {
        "encoder": calibrate(vae.model, vae.guide, x, **options),
        "encoder, weighted": calibrate(vae.model, vae.guide, x, num_samples=NUM_SAMPLES, **options),
        "refined, weighted": calibrate(vae.model, refined, x, num_samples=NUM_SAMPLES, **options),
    }


def figure(rows: dict[str, dict]) -> Figure:
    """Draw the published score of each model, ours by the same estimator, and the refined one."""
    figure = Figure(figsize=(7.5, 3.6))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    kinds = {
        "published": ("published", "0.5", "s"),
        "log_p": (f"ours, {NUM_SAMPLES:,} samples", COLOURS["guide"], "o"),
        "refined_of_all": ("ours, refined", COLOURS["posterior"], "D"),
    }
    for place, row in enumerate(rows.values()):
        for offset, (kind, (label, colour, marker)) in zip(
            (0.2, 0, -0.2), kinds.items(), strict=True
        ):
            value = row[kind]["mean"] if kind == "log_p" else row[kind]
            ax.plot(value, place + offset, marker, color=colour, label=None if place else label)
            ax.annotate(f"  {value:.2f}", (value, place + offset), va="center", color=colour)
            if kind == "log_p":
                ax.plot(row[kind]["ci95"], [place + offset] * 2, "-", lw=1, color=colour)
    ax.set_yticks(
        range(len(rows)), [f"{cell}\n{row['epochs']} epochs" for cell, row in rows.items()]
    )
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="log p(x), nats an image, binarised MNIST")
    ax.margins(x=0.15)
    ax.legend(loc="lower right")
    ax.set_title(f"The table of Burda et al. (2016, {EPOCHS_PUBLISHED:,} epochs)")
    return figure


def as_text(rows: dict[str, dict]) -> str:
    """Return the table for a terminal."""
    lines = [
        f"{'':<9}{'published':>10}{'here':>9}{'passing':>9}{'refined':>9}{'trusted':>9}{'short':>7}"
    ]
    for cell, row in rows.items():
        lines.append(
            f"{cell:<9}{row['published']:>10.2f}{row['log_p']['mean']:>9.2f}"
            f"{row['share_passing']:>9.0%}{row['refined_of_all']:>9.2f}"
            f"{row['refined']['trusted']:>9.1%}{row['falls_short_by']['mean']:>7.2f}"
        )
    return "\n".join(lines)


def options() -> argparse.Namespace:
    """Parse and check the options of the script."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=None, fixed=(*TRAINING, "train"))
    budgets = [cell.epochs for cell in CELLS.values()]
    parser.add_argument(
        "--budgets",
        type=int,
        nargs=len(CELLS),
        default=budgets,
        metavar="E",
        help=f"epochs of {', '.join(CELLS)} (default: {' '.join(map(str, budgets))})",
    )
    parser.add_number("--images", 1000, "test images for the refined guide, half of them simulated")
    args = parser.parse_args()
    check_at_least("--images", args.images, 20)
    check_at_least("--budgets", min(args.budgets), 1)
    return args


def _folder(results: Results, name: str) -> Path:
    folder = results.folder / name
    check_folder(folder)
    return folder


def main() -> None:
    """Train the models, score them by both ways, calibrate their guides; write all of it."""
    args = options()
    data = announce_and_load(
        args,
        "a published table: log p(x) of binarised MNIST by the networks of Burda et al. About 5 "
        "hours of training on 2 cores, an hour for the scores. --resume goes on where it stopped.",
    )
    results = Results(args, data, "published")
    x = binarised(data)
    some = random_positions(x, args.images, SEED)
    settings = {"dataset": data.name, "budgets": args.budgets, "images": len(some)}
    keep = partial(made_once, settings=settings, resume=args.resume)
    samples_kept = keep(_folder(results, "samples"), names={"log_p", "khat"})
    refined_kept = keep(_folder(results, "refined"), names={"log_p", "se", "trusted"})
    rows = {}
    for (cell, about), epochs in zip(CELLS.items(), args.budgets, strict=True):
        vae = trained(data, cell, epochs, _folder(results, "models"), args.resume)
        samples = samples_kept(cell, partial(by_samples, vae, x, cell), (len(x),))
        refined = refined_kept(cell, partial(by_refined, vae, x[some], cell), (len(some),))
        arrays = ({name: t.numpy() for name, t in found.items()} for found in (samples, refined))
        found = calibrated(vae, x[some[: len(some) // 2]], cell)
        rows[cell] = {"published": about.published, "epochs": epochs} | compared(*arrays, some)
        rows[cell]["seconds_an_epoch"] = vae.config["seconds_an_epoch"]
        rows[cell]["calibration"] = {name: one.summary() for name, one in found.items()}
        results.training[cell] = vae.config
        plots = {f"calibration_{cell}_{n.replace(', ', '_')}": c.plot() for n, c in found.items()}
        results.add("rows", rows, **plots)
    results.add("ranking_by_samples", sorted(rows, key=lambda c: -rows[c]["log_p"]["mean"]))
    results.add("ranking_by_refined", sorted(rows, key=lambda c: -rows[c]["refined_of_all"]))
    results.draw(published=figure(rows))
    print(as_text(rows))
    results.finish()
    print(f"figures and metrics.json in {results.folder}")


if __name__ == "__main__":
    run(main)
