"""Guides side by side: what each buys, in one table, with the gaps that explain it.

python -m experiments.compare_guides --frozen-decoder --guides mean_field,full_rank
python -m experiments.compare_guides --frozen-decoder --guides mean_field,my_guide:MyGuide
"""

import argparse
import copy
import importlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from pyro_vae.comparison import Evaluation, as_text, evaluate, pairs, table
from pyro_vae.data import Dataset
from pyro_vae.errors import InputError, check_counts
from pyro_vae.files import check_folder
from pyro_vae.guides import GUIDES, Amortised
from pyro_vae.importance import Estimate, Program, log_joint, log_likelihood, score
from pyro_vae.intervals import mean_interval
from pyro_vae.models import Model
from pyro_vae.networks import Decoder, check_latent_dim
from pyro_vae.plots import COLOURS, save_figure, show_image
from pyro_vae.quadrature import integrate_plane
from pyro_vae.refined import Refined
from pyro_vae.script import (
    TRAINING,
    check_device,
    load_data,
    make_parser,
    run,
    save_metrics,
    trained_vae,
)
from pyro_vae.training import fit

SEED = 3  # of everything drawn for the comparison; the training has its own
Builder = Callable[[Model], Program]


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
    except (ImportError, AttributeError) as error:
        raise InputError(f"--guides: {spec!r} cannot be imported: {error}") from error


def train_guide(
    args: argparse.Namespace, data: Dataset, name: str, builder: Builder, base: tuple, folder: Path
) -> tuple[Model, Program, dict]:
    """A guide trained on the generator `base` holds, or together with a new one of its own.

    On a frozen generator an amortised guide starts from the encoder of record but for its last
    layer, which is new to every guide.
    """
    base_model, base_guide, config = base
    torch.manual_seed(config["seed"])
    if args.frozen_decoder:
        model = copy.deepcopy(base_model).requires_grad_(False)
    else:
        model = Model(Decoder(args.latent_dim)).to(args.device)
    guide = builder(model)
    if isinstance(guide, nn.Module):
        guide.to(args.device)
    if args.frozen_decoder and isinstance(guide, Amortised):
        for layer, known in zip(guide.encoder.g[:-1], base_guide.encoder.g[:-1], strict=True):
            layer.load_state_dict(known.state_dict())
    modules = [part for part in (model, guide) if isinstance(part, nn.Module)]
    if not any(w.requires_grad for part in modules for w in part.parameters()):
        return model, guide, {"seconds": 0.0, "history": []}
    print(f"{name}: training for {args.guide_epochs} epochs")
    start = time.perf_counter()
    history = fit(
        model,
        guide,
        (data.train_images.to(args.device),),
        (data.test_images.to(args.device),),
        epochs=args.guide_epochs,
        batch_size=config["batch_size"],
        learning_rate=config["learning_rate"],
        seed=config["seed"],
        state_path=folder / f"{name}.training.pt" if len(modules) == 2 else None,
        resume=args.resume,
        same={
            "dataset": data.name,
            "guide": name,
            "latent_dim": args.latent_dim,
            "frozen_decoder": args.frozen_decoder,
        },
    )
    return model, guide, {"seconds": time.perf_counter() - start, "history": history}


# ---------------------------------------------------------------- figures


def gaps_figure(rows: list[dict], title: str) -> Figure:
    """How far each guide's ELBO stays below log p(x), and why; and what its weights are worth."""
    figure = Figure(figsize=(12.8, 0.5 * len(rows) + 1.9))
    figure.set_layout_engine("constrained")
    left, middle, right = figure.subplots(1, 3, sharey=True, width_ratios=[1.5, 1.1, 1])
    place = np.arange(len(rows))[::-1]
    for y, row in zip(place, rows, strict=True):
        total = row["log_p"]["mean"] - row["elbo"]["mean"]
        gaps = row["gaps"]
        if gaps is None:
            left.barh(y, total, 0.6, color="0.7")
            continue
        start = 0.0
        for key, colour in (
            ("approximation", COLOURS["posterior"]),
            ("amortisation", COLOURS["guide"]),
        ):
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
    widest = max(row["gaps"]["sum"]["mean"] for row in rows if row["gaps"])
    left.set(
        xlabel="log p(x) − ELBO, nats per image",
        xlim=(0, 1.25 * widest),
        title="What the ELBO misses (95% intervals)",
    )
    left.set_yticks(place, [row["guide"] for row in rows])
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
    middle.axvline(0, color="0.3", lw=0.8)
    near = [row["elbo_minus_first"]["mean"] for row in rows if row["guide"] != "prior"]
    reach = 1.5 * max(abs(value) for value in [*near, 0.1])
    middle.set(
        xlim=(-reach, reach),
        xlabel=f"minus {rows[0]['guide']}'s, nats per image",
        title="Paired differences (95% intervals)",
    )
    share = [row["share_trusted"] for row in rows]
    ess = [row["median_ess"] / row["num_samples"] for row in rows]
    right.barh(place + 0.17, share, 0.32, color="#4d9221", label="images that pass $\\hat k$")
    right.barh(place - 0.17, ess, 0.32, color="0.5", label="median effective sample share")
    right.set(xlim=(0, 1), title=f"{rows[0]['num_samples']:,} samples an image")
    right.xaxis.set_major_formatter("{x:.0%}")
    figure.legend(loc="outside lower center", ncols=7, fontsize=8.5)
    figure.suptitle(title)
    return figure


@torch.no_grad()
def posteriors_figure(
    model: Model, guides: dict[str, Program], x: Tensor, labels: list[str]
) -> Figure:
    """The exact posterior of each image (d = 2), and the contours of each guide over it.

    Contours hold 50% and 95% of a guide's mass, the shading is the posterior's density.
    """
    plane = integrate_plane(model, x)
    w = (plane.log_posterior.exp() * plane.cell).float()[..., None]  # (n * n, B, 1)
    z = plane.z.float()
    mean = (w * z).sum(0)
    sd = (w * (z - mean).square()).sum(0).sqrt()
    figure = Figure(figsize=(1.9 * (len(guides) + 1) + 0.4, 2.05 * len(x) + 0.9))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(x), len(guides) + 1, squeeze=False)
    for b, row in enumerate(axes):
        show_image(row[0], x[b])
        row[0].set_ylabel(labels[b], fontsize=9)
        half = 4.5 * float(sd[b].max())
        ticks = [torch.linspace(float(c) - half, float(c) + half, 141) for c in mean[b]]
        grid = torch.cartesian_prod(*ticks)[:, None]  # (n * n, 1, 2)
        posterior = (
            log_joint(model, [x[b : b + 1]], {"z": grid.to(x)})[:, 0] - plane.log_evidence[b]
        )
        extent = [*(float(tick[end]) for tick in ticks for end in (0, -1))]
        for ax, (name, guide) in zip(row[1:], guides.items(), strict=True):
            ax.imshow(
                posterior.exp().view(141, 141).T,
                extent=extent,
                origin="lower",
                cmap="Blues",
                aspect="auto",
            )
            density = score(guide, [x[b : b + 1]], {"z": grid.to(x)})[:, 0].double().exp().cpu()
            ax.contour(
                *[tick.numpy() for tick in ticks],
                density.view(141, 141).T.numpy(),
                levels=mass_levels(density.numpy(), float(ticks[0][1] - ticks[0][0]) ** 2),
                colors=COLOURS["guide"],
                linewidths=1.3,
            )
            ax.tick_params(labelsize=6.5)
            ax.grid(False)
            if b == 0:
                ax.set_title(name.replace("_", "\n"), fontsize=9.5)
    figure.suptitle(
        "Exact posterior over the latent plane (shading) and each guide (50% and 95% contours)"
    )
    return figure


def mass_levels(density: np.ndarray, cell: float) -> list[float]:
    """The densities whose contours hold 95% and 50% of the mass that is in view."""
    order = np.sort(density)[::-1]
    mass = np.cumsum(order) * cell
    found = [order[np.searchsorted(mass, share * mass[-1])] for share in (0.95, 0.5)]
    return [found[0], max(found[1], np.nextafter(found[0], np.inf))]


def easy_typical_hard(gap: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Four images, from the smallest gap between log p(x) and ELBO to nearly the largest."""
    order = np.argsort(gap)
    shares = {"easy": 0.01, "typical": 0.5, "hard": 0.9, "ambiguous": 0.99}
    chosen = np.array([order[int(share * (len(order) - 1))] for share in shares.values()])
    names = [
        f"{name}: a {labels[i]}\ngap {gap[i]:.1f} nats"
        for name, i in zip(shares, chosen, strict=True)
    ]
    return chosen, names


# ---------------------------------------------------------------- the whole


def exact(model: Model, x: Tensor) -> np.ndarray:
    """log p(x) by quadrature, `(B,)`, d = 2."""
    return torch.cat([integrate_plane(model, part).log_evidence for part in x.split(20)]).numpy()


def main() -> None:
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--guides",
        default=",".join(GUIDES),
        help="names, or path.to.module:Name of your own, with commas between",
    )
    parser.add_argument("--latent-dim", type=int, default=4, help="dimensions of z")
    parser.add_argument(
        "--frozen-decoder",
        action="store_true",
        help="train the guides alone, on the checkpoint's generator, and not each with its own",
    )
    parser.add_argument(
        "--guide-epochs",
        type=int,
        help="epochs for each guide (3 on a frozen generator, else 10)",
    )
    parser.add_argument(
        "--images", type=int, default=1000, metavar="N", help="test images; gaps on a tenth of them"
    )
    args = parser.parse_args()
    check_latent_dim(args.latent_dim)
    if args.guide_epochs is None:
        args.guide_epochs = 3 if args.frozen_decoder else 10
    check_counts(guide_epochs=args.guide_epochs)
    if args.images < 20:
        raise InputError(f"--images must be >= 20, not {args.images}")
    builders = dict(find_guide(spec.strip()) for spec in args.guides.split(","))
    data = load_data(args)
    device = check_device(args.device)
    kind = "frozen" if args.frozen_decoder else "joint"
    folder = args.results / f"compare_guides_{kind}_d{args.latent_dim}"
    print(
        f"{len(builders)} guides, {args.guide_epochs} epochs each: about {args.guide_epochs + 1} "
        "minutes a guide on 2 cores. --resume goes on where a run was stopped."
    )
    check_folder(folder)
    if args.frozen_decoder:
        base_model, base_guide, config = trained_vae(args, data, args.latent_dim)
    else:
        asked = {key: getattr(args, key) for key in TRAINING if hasattr(args, key)}
        base_model, base_guide, config = None, None, TRAINING | asked

    random = np.random.default_rng(SEED)
    chosen = random.permutation(len(data.test_images))[: args.images]
    x, labels = data.test_images[chosen].to(device), data.test_labels[chosen].numpy()
    found: dict[str, Evaluation] = {}
    guides: dict[str, Program] = {}
    trainings = {}
    common: Estimate | None = None
    for name, builder in builders.items():
        model, guide, trainings[name] = train_guide(
            args, data, name, builder, (base_model, base_guide, config), folder
        )
        if args.frozen_decoder and common is None:
            refined = Refined(model, base_guide)
            common = log_likelihood(
                model, refined, x, num_samples=1000, seed=SEED, progress="refined log p"
            )
        found[name] = evaluate(
            model, guide, x, log_p=common, gap_images=args.images // 10, seed=SEED, progress=name
        )
        guides[name] = guide
    if args.frozen_decoder:
        found["refined"] = evaluate(
            model, refined, x, log_p=common, seed=SEED, progress="refined, as a guide"
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
            + f", d = {args.latent_dim}, {args.images} test images",
        )
    }
    metrics: dict = {"rows": {row["guide"]: row for row in rows}, "pairs": pairs(found)}
    if args.latent_dim == 2 and args.frozen_decoder:
        log_p = exact(model, x)
        metrics["exact"] = mean_interval(log_p) | {"estimator": "quadrature"}
        metrics["exact_minus_refined"] = mean_interval(log_p - common.value)
        first = next(iter(found.values()))
        shown, names = easy_typical_hard(log_p - first.estimate.elbo, labels)
        figures["posteriors"] = posteriors_figure(model, guides, x[shown], names)
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png", data.name)
    save_metrics(folder / "metrics.json", metrics, args, data, config)
    print(as_text(rows))
    print(f"figures and metrics.json in {folder}")


if __name__ == "__main__":
    run(main)
