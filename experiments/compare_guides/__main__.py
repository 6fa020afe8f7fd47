"""Guides side by side: what each buys, in one table, with the gaps that explain it.

python -m experiments.compare_guides --frozen-decoder --guides mean_field,full_rank
python -m experiments.compare_guides --frozen-decoder --guides mean_field,my_guide:MyGuide
"""

import argparse
import copy
import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from experiments.cli import (
    TRAINING,
    announce_and_load,
    check_at_least,
    check_device,
    make_parser,
    run,
    training_settings,
)
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae.analysis.comparison import Evaluation, as_text, evaluate, pairs, table
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.analysis.sampling import guide_samples
from pyro_vae.data import Dataset
from pyro_vae.errors import InputError, check_counts
from pyro_vae.guides import GUIDES
from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.importance import log_joint_in_chunks, log_likelihood, log_weights
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.likelihood.quadrature import GridPosterior, integrate_plane
from pyro_vae.likelihood.traces import Program, log_joint
from pyro_vae.models import Model
from pyro_vae.networks.appendix import Decoder
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.training.fit import fit

SEED = 3  # of everything drawn for the comparison; the training has its own
Builder = Callable[[Model], Program]


def reason(error: Exception) -> str:
    """Why a user's own code failed, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def find_guide(spec: str) -> tuple[str, Builder]:
    """The label and the builder of a guide: one of GUIDES by name, or `path.to.module:Name`."""
    if spec in GUIDES:
        return spec, GUIDES[spec]
    module, colon, name = spec.partition(":")
    if not colon:
        raise InputError(
            f"--guides: {spec!r} is unknown: choose from {', '.join(GUIDES)}, "
            "or name your own as path.to.module:Name"
        )
    try:
        return name, getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's own code
        raise InputError(f"--guides: {spec!r} cannot be imported: {reason(error)}") from error


def make_guide(
    name: str, builder: Builder, model: Model, args: argparse.Namespace, x: Tensor
) -> nn.Module:
    """The guide that `builder` makes of the model, on the device and in the precision asked for.

    It is tried on a few images `x`: what is wrong with it shows before any other is trained.
    """
    try:
        guide = builder(model)
    except InputError:
        raise
    except Exception as error:  # a user's own code
        raise InputError(f"--guides: {name}(model) fails with {reason(error)}") from error
    if not isinstance(guide, nn.Module):
        raise InputError(
            f"--guides: {name}(model) is a {type(guide).__name__}: make it a torch.nn.Module, "
            "whose parameters can be trained and kept"
        )
    if isinstance(guide, Amortised):
        guide.encoder.precision = args.guide_precision
    guide.to(args.device)
    try:
        log_weights(model, guide, x, num_samples=2)
    except Exception as error:
        raise InputError(f"--guides: {name} fails on an image with {reason(error)}") from error
    return guide


def warm_start(guide: nn.Module, known: nn.Module) -> None:
    """Give an amortised guide the weights of a trained encoder but for its last layer.

    That layer is new to every guide. An encoder of another make starts from its own weights.
    """
    if not isinstance(guide, Amortised):
        return
    own = guide.encoder.state_dict()
    last = f"g.{len(known.g) - 1}."
    fitting = {
        name: w
        for name, w in known.state_dict().items()
        if not name.startswith(last) and name in own and own[name].shape == w.shape
    }
    guide.encoder.load_state_dict(fitting, strict=False)


def train(
    model: Model,
    guide: nn.Module,
    data: Dataset,
    args: argparse.Namespace,
    settings: dict,
    name: str,
    folder: Path,
) -> dict:
    """Train the guide, and the model unless it is frozen.

    The seconds of a training that is resumed are those in the metrics of the run that made it, and
    null where there are none of just that training.
    """
    if not any(w.requires_grad for part in (model, guide) for w in part.parameters()):
        return {"seconds": 0.0, "history": []}
    print(f"{name}: training for {args.guide_epochs} epochs")
    state_path = folder / f"{name}.training.pt"
    resumed = args.resume and state_path.exists()
    start = time.perf_counter()
    history = fit(
        model,
        guide,
        (data.train_images.to(args.device),),
        (data.test_images.to(args.device),),
        epochs=args.guide_epochs,
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        # so that what differs between guides is not lost in the noise of a constant rate
        schedule="cosine" if args.frozen_decoder else "constant",
        seed=settings["seed"],
        batch_parts=settings["batch_parts"],
        state_path=state_path,
        resume=args.resume,
        must_match={
            "dataset": data.name,
            "guide": name,
            "precision": args.guide_precision,
            "generator": fingerprint(model) if args.frozen_decoder else "new",
        },
    )
    seconds = time.perf_counter() - start
    if resumed:
        seconds = known_seconds(folder, name, history)
    return {"seconds": seconds, "history": history}


def known_seconds(folder: Path, name: str, history: list[dict]) -> float | None:
    """The seconds that a guide took for this training, from the metrics in `folder`."""
    try:
        row = json.loads((folder / "metrics.json").read_text())["rows"][name]
        return row["seconds"]["train"] if row["history"] == history else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# ---------------------------------------------------------------- figures


def gaps_figure(rows: list[dict], title: str) -> Figure:
    """How far each guide's ELBO stays below log p(x), and why; and what its weights are worth."""
    figure = Figure(figsize=(12.8, 0.5 * len(rows) + 2.2))
    figure.set_layout_engine("constrained")
    left, middle, right = figure.subplots(1, 3, sharey=True, width_ratios=[1.5, 1.1, 1])
    place = np.arange(len(rows))[::-1]
    totals = np.array([row["gaps"]["sum"]["mean"] for row in rows])
    # a total beyond is cut, and marked; of the others there is room for the interval at their end
    last = [row["gaps"].get("amortisation", row["gaps"]["sum"]) for row in rows]
    reached = totals + [part["ci95"][1] - part["mean"] for part in last]
    widest = 1.05 * max(reached[totals <= 5 * np.median(totals)], default=1.0)
    for y, row in zip(place, rows, strict=True):
        gaps = row["gaps"]
        total = gaps["sum"]["mean"]
        if total > widest:
            left.text(widest, y, f" {total:.0f} \u25b6", va="center", ha="right", fontsize=9)
        parts = {"approximation": COLOURS["posterior"], "amortisation": COLOURS["guide"]}
        if "approximation" not in gaps:
            parts = {"sum": "0.7"}
        start = 0.0
        for key, colour in parts.items():
            mean, ends = gaps[key]["mean"], gaps[key]["ci95"]
            left.barh(y, mean, 0.6, left=start, color=colour)
            end = start + mean
            left.plot([end - mean + ends[0], end - mean + ends[1]], [y, y], "k-", lw=1)
            start = end
    for label, colour in (
        ("approximation gap: the family", COLOURS["posterior"]),
        ("amortisation gap: the encoder", COLOURS["guide"]),
        ("both, not told apart", "0.7"),
    ):
        left.barh([np.nan], [np.nan], color=colour, label=label)
    left.set(
        xlabel=f"log p(x) − ELBO, nats per image, {rows[0]['gaps']['sum']['images']:,} images",
        xlim=(
            min(0.0, *(row["gaps"][key]["ci95"][0] for row in rows for key in row["gaps"])),
            widest,
        ),
        title="What the ELBO misses (95% interval of each part)",
    )
    left.set_yticks(place, [row["guide"] for row in rows])
    differences = np.array([row["elbo_minus_first"]["mean"] for row in rows])
    usual = np.abs(differences)[np.abs(differences) <= 5 * np.median(totals)]
    reach = 1.6 * max(0.1, *usual)
    for key, colour, offset, label in (
        ("elbo_minus_first", COLOURS["guide"], 0.13, "ELBO"),
        ("iwae_100_minus_first", COLOURS["posterior"], -0.13, "IWAE-100"),
    ):
        means = np.array([row[key]["mean"] for row in rows])
        ends = np.array([row[key]["ci95"] for row in rows]).T
        middle.errorbar(
            means,
            place + offset,
            xerr=np.abs(ends - means),
            fmt="o",
            ms=4,
            color=colour,
            label=label,
        )
        for y, mean in zip(place + offset, means, strict=True):
            if abs(mean) > reach:
                mark, side = ("\u25c0", "left") if mean < 0 else ("\u25b6", "right")
                number = f"{mean:.0f}".replace("-", "\u2212")
                middle.text(
                    np.copysign(reach, mean),
                    y,
                    f" {mark} {number} ",
                    va="center",
                    ha=side,
                    fontsize=9,
                    color=colour,
                )
    middle.axvline(0, color="0.3", lw=0.8)
    middle.set(
        xlim=(-reach, reach),
        xlabel=f"minus {rows[0]['guide']}'s, nats per image",
        title=f"Paired differences, {rows[0]['elbo']['images']:,} images (95% intervals)",
    )
    share = [row["share_trusted"] for row in rows]
    ess = [row["median_ess"] / row["num_samples"] for row in rows]
    right.barh(place + 0.17, share, 0.32, color="#4d9221", label="images that pass $\\hat k$")
    right.barh(place - 0.17, ess, 0.32, color="0.5", label="median effective sample share")
    right.set(xlim=(0, 1), title=f"{rows[0]['num_samples']:,} samples an image")
    right.xaxis.set_major_formatter("{x:.0%}")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8.5)
    figure.suptitle(title)
    return figure


@torch.no_grad()
def posteriors_figure(
    model: Model, guides: dict[str, Program], x: Tensor, labels: list[str]
) -> Figure:
    """The exact posterior of each image (d = 2), and the contours of each guide over it.

    A picture holds the posterior and the amortised guides. Contours hold 50% and 95% of a guide's
    mass; where less lies in the picture, it says how much.
    """
    plane = integrated(model, x)
    drawn = [
        guide_samples(guide, x, num_samples=200, seed=SEED).double().cpu()
        for guide in guides.values()
        if isinstance(guide, Amortised)
    ]
    figure = Figure(figsize=(1.9 * (len(guides) + 1) + 0.4, 2.05 * len(x) + 0.9))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(x), len(guides) + 1, squeeze=False)
    for b, row in enumerate(axes):
        show_image(row[0], x[b])
        row[0].set_ylabel(labels[b], fontsize=9)
        bulk = plane.log_posterior[:, b] > plane.log_posterior[:, b].max() - 7
        low, high = torch.cat([plane.z[bulk, b], *(z[:, b] for z in drawn)]).aminmax(dim=0)
        centre, half = (low + high) / 2, 0.6 * float((high - low).max())
        ticks = [torch.linspace(float(c) - half, float(c) + half, 201) for c in centre]
        area = float(ticks[0][1] - ticks[0][0]) ** 2
        grid = torch.cartesian_prod(*ticks)[:, None]  # (n * n, 1, 2)
        log_p = log_joint_in_chunks(model, [x[b : b + 1]], {"z": grid.to(x)})[:, 0]
        posterior = (log_p - plane.log_evidence[b]).exp()
        extent = [*(float(tick[end]) for tick in ticks for end in (0, -1))]
        for ax, (name, guide) in zip(row[1:], guides.items(), strict=True):
            ax.imshow(
                posterior.view(201, 201).T,
                extent=extent,
                origin="lower",
                cmap="Blues",
                norm=PowerNorm(0.5, vmin=0),  # a second, fainter mode is seen too
                aspect="auto",
            )
            density = log_joint(guide, [x[b : b + 1]], {"z": grid.to(x)})[:, 0].double().exp().cpu()
            levels = mass_levels(density.numpy(), area)
            if levels:
                ax.contour(
                    *[tick.numpy() for tick in ticks],
                    density.view(201, 201).T.numpy(),
                    levels=levels,
                    colors=COLOURS["guide"],
                    linewidths=1.3,
                )
            else:
                held = float(density.sum()) * area
                ax.set_xlabel(f"{held:.0%} of it in here", fontsize=8, color=COLOURS["guide"])
            ax.tick_params(labelsize=6.5)
            ax.locator_params(nbins=4)
            ax.grid(False)
            if b == 0:
                ax.set_title(name.replace("_", "\n"), fontsize=9.5)
    figure.suptitle(
        "Exact posterior over the latent plane (shading: square root of its density)\n"
        "and each guide (50% and 95% contours)"
    )
    return figure


def mass_levels(density: np.ndarray, cell: float) -> list[float]:
    """The densities whose contours hold 95% and 50% of the mass; without those beyond the grid."""
    order = np.sort(density)[::-1]
    mass = np.cumsum(order) * cell
    levels = [float(order[np.searchsorted(mass, s)]) for s in (0.95, 0.5) if s < mass[-1]]
    return sorted(set(levels))


def four_posteriors(
    gap: np.ndarray, spread: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Images with the smallest, the median and the largest gap, and with the widest posterior."""
    order = np.argsort(gap)
    chosen = np.array([order[0], order[len(order) // 2], order[-1], np.argmax(spread)])
    kinds = ["easy", "typical", "hard", "ambiguous"]
    names = [
        f"{kind}: a {labels[i]}\ngap {gap[i]:.1f} nats, sd {spread[i]:.2f}"
        for kind, i in zip(kinds, chosen, strict=True)
    ]
    return chosen, names


# ---------------------------------------------------------------- the whole


def integrated(model: Program, x: Tensor, points: int = 161) -> GridPosterior:
    """Quadrature over [-6, 6]^2, or twice as far where that does not hold the posterior.

    That of a model hardly trained may lie anywhere.
    """
    try:
        return integrate_plane(model, x, points=points)
    except InputError:
        return integrate_plane(model, x, points=2 * points - 1, half_width=12.0)


def exact(model: Model, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """log p(x) and the standard deviation of p(z | x) over both axes, exact, both `(B,)`."""
    log_p, spread = [], []
    for part in tqdm(x.split(5), desc="quadrature"):
        plane = integrated(model, part, points=81)
        log_p.append(plane.log_evidence)
        spread.append(plane.moments()[1].square().sum(-1).sqrt())
    return torch.cat(log_p).numpy(), torch.cat(spread).numpy()


def main() -> None:
    """Train the guides that are asked for, compare them, draw the figures and write the metrics."""
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--guides",
        default=",".join(GUIDES),
        help="names, or path.to.module:Name of your own, with commas between",
    )
    parser.add_argument(
        "--frozen-decoder",
        action="store_true",
        help="train the guides alone, on the checkpoint's generator, and not each with its own",
    )
    parser.add_argument(
        "--guide-epochs",
        type=int,
        help="epochs for each guide (5 on a frozen generator, else 10)",
    )
    parser.add_argument(
        "--images", type=int, default=1000, metavar="N", help="test images; gaps on a tenth of them"
    )
    args = parser.parse_args()
    check_counts(latent_dim=args.latent_dim)
    if args.guide_epochs is None:
        args.guide_epochs = 5 if args.frozen_decoder else 10
    check_counts(guide_epochs=args.guide_epochs)
    check_at_least("--images", args.images, 20)
    builders = [find_guide(spec.strip()) for spec in args.guides.split(",")]
    names = [name for name, _ in builders]
    if len({*names, "refined"}) <= len(names):
        raise InputError(f"--guides: the labels {names} must differ, and none be 'refined'")
    if not args.frozen_decoder and ("epochs" in args.given or args.checkpoint or args.train):
        raise InputError(
            "--epochs, --checkpoint and --train are for a generator that is there before the "
            "guides: add --frozen-decoder, or use --guide-epochs"
        )
    data = announce_and_load(
        args,
        f"guides: {len(builders)}, epochs of each: {args.guide_epochs}. "
        f"About {args.guide_epochs + 2} minutes a guide on 2 cores, six times "
        "that for a semi-amortised one, up to 40 more for the gaps of a spline flow in 20 "
        "dimensions, and 5 for the refined guide. --resume goes on where a run was stopped.",
    )
    device = check_device(args.device)
    settings = training_settings(args)
    args.guide_precision = settings["precision"]
    kind = "frozen" if args.frozen_decoder else "joint"
    results = Results(args, data, f"compare_guides_{kind}_d{args.latent_dim}")
    folder = results.folder
    if args.frozen_decoder:
        base = load_or_train(args, data, Spec(args.latent_dim), path=args.checkpoint)
        base_model, base_guide, config = base.model, base.guide, base.config
        settings = TRAINING | {key: config[key] for key in TRAINING if key in config}
    else:
        config = settings | {"epochs": args.guide_epochs}

    made = {}  # all of them first: a wrong one stops the run before any is trained
    some = data.test_images[:2].to(device)
    for name, builder in builders:
        torch.manual_seed(settings["seed"])
        if args.frozen_decoder:
            model = copy.deepcopy(base_model).requires_grad_(False)
        else:
            model = Model(Decoder(args.latent_dim)).to(device)
        made[name] = (model, make_guide(name, builder, model, args, some))
        if args.frozen_decoder:
            warm_start(made[name][1], base_guide.encoder)

    chosen = np.random.default_rng(SEED).permutation(len(data.test_images))[: args.images]
    x, labels = data.test_images[chosen].to(device), data.test_labels[chosen].numpy()
    options = {"gap_images": args.images // 10, "seed": SEED}
    found: dict[str, Evaluation] = {}
    trainings = {}
    common: Estimate | None = None  # log p(x) is the generator's: one estimate for all its guides
    if args.frozen_decoder:
        refined = Refined(base_model, base_guide)
        common = log_likelihood(
            base_model, refined, x, num_samples=1000, seed=SEED, progress="refined log p"
        )
    for name, (model, guide) in made.items():
        trainings[name] = train(model, guide, data, args, settings, name, folder)
        found[name] = evaluate(model, guide, x, log_p=common, progress=name, **options)
    if args.frozen_decoder:
        options["seed"] = SEED + 1  # other samples than those of `common`
        found["refined"] = evaluate(
            base_model, refined, x, log_p=common, progress="refined, as a guide", **options
        )
        trainings["refined"] = {"seconds": 0.0, "history": []}

    rows = table(found)
    for row in rows:
        row["seconds"]["train"] = trainings[row["guide"]]["seconds"]
        row["history"] = trainings[row["guide"]]["history"]
    figures = {
        "guides": gaps_figure(
            rows,
            f"{len(rows)} guides of "
            + ("one generator" if args.frozen_decoder else "generators of their own")
            + f", d = {args.latent_dim}, {len(x):,} test images",
        )
    }
    metrics: dict = {"rows": {row["guide"]: row for row in rows}, "pairs": pairs(found)}
    if args.latent_dim == 2 and args.frozen_decoder:
        some = slice(options["gap_images"])
        log_p, spread = exact(base_model, x[some])
        metrics["exact"] = mean_interval(log_p) | {"estimator": "quadrature"}
        metrics["exact_minus_refined"] = mean_interval(log_p - common.value[some])
        first = next(iter(found.values()))
        gap = log_p - first.estimate.elbo[some]
        shown, names = four_posteriors(gap, spread, labels)
        guides = {name: guide for name, (_, guide) in made.items()} | {"refined": refined}
        figures["posteriors"] = posteriors_figure(base_model, guides, x[shown], names)
    results.training = config
    results.draw(**figures)
    for name, found_metrics in metrics.items():
        results.add(name, found_metrics)
    print(as_text(rows))
    print(f"figures and metrics.json in {folder}")


if __name__ == "__main__":
    run(main)
