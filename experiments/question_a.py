"""Question (a): train the appendix's autoencoder and look at what it has learnt.

Reconstructions, noisy images, random images and an interpolation, as asked; beyond that the noise
level at which the digit is lost, measured, and the exact posterior behind the interpolation.

    python -m experiments.question_a
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from pyro_vae.data import Dataset, check_indices
from pyro_vae.guides import MeanField
from pyro_vae.importance import log_likelihood
from pyro_vae.models import Model
from pyro_vae.networks import check_latent_dim
from pyro_vae.plots import image_rows, save_figure
from pyro_vae.reading import Reader, nearest_neighbour_reader
from pyro_vae.refined import Refined
from pyro_vae.sampling import decode, guide_samples, pixel_samples, posterior_samples
from pyro_vae.script import load_data, make_parser, run, save_metrics, trained_vae

SEED = 1  # of everything drawn for the figures; the training has its own
COLOURS = {"guide": "#d95f02", "posterior": "#1b6ca8"}


def gaussian_noise(x: Tensor, level: float, random: torch.Generator) -> Tensor:
    """x + level * N(0, 1) at each pixel, clipped to [0, 1]."""
    return (x + level * torch.randn(x.shape, generator=random)).clamp(0, 1)


def salt_and_pepper(x: Tensor, level: float, random: torch.Generator) -> Tensor:
    """Each pixel replaced with probability `level` by black or white, at even odds."""
    replaced = torch.rand(x.shape, generator=random) < level
    return torch.where(replaced, torch.bernoulli(torch.full_like(x, 0.5), generator=random), x)


# name: (function, levels shown, levels measured)
NOISES = {
    "Gaussian noise": (
        gaussian_noise, [0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5], np.linspace(0, 1.6, 9),
    ),
    "salt and pepper": (
        salt_and_pepper, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7], np.linspace(0, 0.8, 9),
    ),
}  # fmt: skip


def reconstructions(model: Model, guide: MeanField, x: Tensor, names: list[str]) -> Figure:
    """Each image of `x`, two latents drawn from the guide decoded, and pixels drawn from them."""
    z = guide_samples(guide, x, num_samples=2, seed=SEED)  # (2, B, d)
    means = decode(model, z)
    pixels = pixel_samples(means, SEED)
    rows = [torch.stack([x[b], *means[:, b], *pixels[:, b]]) for b in range(len(x))]
    titles = [
        ["image $x$", r"mean at $z_1$", r"mean at $z_2$", r"pixels at $z_1$", r"pixels at $z_2$"]
    ] + [[""] * 5] * (len(x) - 1)
    return image_rows(
        rows,
        names,
        "Two sampled reconstructions: $z_1, z_2 \\sim q(z\\,|\\,x)$\n"
        "mean $=E[x\\,|\\,z]$; pixels $\\sim p(x\\,|\\,z)$, black or white",
        titles,
        size=1.3,
    )


def noise_figure(
    model: Model, guide: MeanField, x: Tensor, name: str, read: Reader
) -> tuple[Figure, dict]:
    """The image under each kind of noise, and reconstructions of each noisy image.

    Once from the guide, and once from the exact posterior p(z | noisy image), which is what the
    guide stands for: where the two differ, the encoder and not the model has lost the digit.
    """
    rows, labels, titles, readings = [], [], [], {}
    for kind, (add_noise, shown, _) in NOISES.items():
        random = torch.Generator().manual_seed(SEED)
        noisy = torch.cat([add_noise(x, level, random) for level in shown])
        rows.append(noisy)
        labels.append(f"{name}\nwith {kind}")
        titles.append([f"level {level:g}" for level in shown])
        readings[kind] = {"level": shown}
        for source, symbol, z in (
            ("guide", "q", guide_samples(guide, noisy, num_samples=1, seed=SEED)),
            ("posterior", "p", exact_samples(model, guide, noisy)),
        ):
            means = decode(model, z[0])
            digits = read(means).tolist()
            rows.append(means)
            labels.append(f"mean at one draw of\n{source} ${symbol}(z\\,|\\,noisy)$")
            titles.append([f"read as {digit}" for digit in digits])
            readings[kind][source] = digits
    title = "Noisy images and what they are reconstructed as"
    return image_rows(rows, labels, title, titles, size=1.2), readings


def exact_samples(model: Model, guide: MeanField, x: Tensor, num_draws: int = 1) -> Tensor:
    """Draws of the exact posterior, `(num_draws, B, d)`, by resampling from the refined guide."""
    return posterior_samples(model, Refined(model, guide), x, num_draws=num_draws, seed=SEED)[0]


@torch.no_grad()
def noise_curves(
    model: Model, guide: MeanField, x: Tensor, label: int, data: Dataset, read: Reader
) -> dict[str, dict[str, list[float]]]:
    """For each kind and level of noise, the share of reconstructions still read as the digit.

    Of image `x` under 200 draws of noise, of the first 400 test images under one each, and of image
    `x` once more with the latent drawn from the exact posterior (fewer draws: each costs a fit).
    """
    curves = {}
    for kind, (add_noise, _, levels) in NOISES.items():
        random = torch.Generator().manual_seed(SEED)
        sets = {
            "image": (x.expand(200, -1, -1, -1), np.full(200, label)),
            "test": (data.test_images[:400], data.test_labels[:400].numpy()),
            "posterior": (x.expand(40, -1, -1, -1), np.full(40, label)),
        }
        shares: dict[str, list[float]] = {name: [] for name in sets}
        for level in tqdm(levels, desc=f"levels of {kind}"):
            for name, (images, truth) in sets.items():
                noisy = add_noise(images, float(level), random)
                if name == "posterior":
                    z = exact_samples(model, guide, noisy)
                else:
                    z = guide_samples(guide, noisy, num_samples=1, seed=SEED)
                shares[name].append(float((read(decode(model, z[0])) == truth).mean()))
        draws = {name: len(images) for name, (images, _) in sets.items()}
        curves[kind] = {"level": levels.tolist(), "share": shares, "draws": draws}
    return curves


def lost_at(levels: list[float], shares: list[float]) -> float | None:
    """The first level at which the share falls through one half (linearly between levels)."""
    for i in range(1, len(levels)):
        if shares[i] < 0.5 <= shares[i - 1]:
            part = (shares[i - 1] - 0.5) / (shares[i - 1] - shares[i])
            return levels[i - 1] + part * (levels[i] - levels[i - 1])
    return None


def curves_figure(curves: dict, name: str) -> Figure:
    figure = Figure(figsize=(9.5, 3.8))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(curves), sharey=True)
    for ax, (kind, curve) in zip(axes, curves.items(), strict=True):
        levels = np.array(curve["level"])
        for key, what, colour in (
            ("posterior", f"{name}, $z$ from the posterior", COLOURS["posterior"]),
            ("image", f"{name}, $z$ from the guide", COLOURS["guide"]),
            ("test", "test images, $z$ from the guide", "0.45"),
        ):
            share, draws = np.array(curve["share"][key]), curve["draws"][key]
            # plus two successes and two failures, so that 0 and 1 have an interval (Agresti, Coull)
            se = np.sqrt((share * draws + 2) * (draws - share * draws + 2) / (draws + 4) ** 3)
            ax.plot(levels, share, "o-", ms=3.5, color=colour, label=what)
            low, high = np.clip([share - 1.96 * se, share + 1.96 * se], 0, 1)
            ax.fill_between(levels, low, high, color=colour, alpha=0.2)
        ax.axhline(0.5, color="0.4", lw=0.8, ls="--")
        ax.axhline(0.1, color="0.7", lw=0.8, ls=":")
        ax.set(xlabel=f"level of {kind}", ylim=(-0.02, 1.04), title=kind)
    figure.axes[0].set_ylabel("reconstructions read as the true digit")
    figure.axes[0].legend(fontsize=8.5, loc="upper right")
    figure.suptitle("Where noise changes the reconstructed digit (95% intervals; dotted: chance)")
    return figure


def random_images(model: Model, latent_dim: int, count: int = 6) -> Figure:
    """Decoded draws from the prior."""
    z = torch.randn(count, latent_dim, generator=torch.Generator().manual_seed(SEED))
    means = decode(model, z.to(next(model.parameters()).device))
    rows = [means, pixel_samples(means, SEED)]
    return image_rows(
        rows,
        ["mean image\n$E[x\\,|\\,z]$", "sampled pixels\n$x\\sim p(x\\,|\\,z)$"],
        f"{count} random images: $z\\sim N(0, I_{{{latent_dim}}})$",
        size=1.3,
    )


def interpolation(
    model: Model, ends: Tensor, x: Tensor, names: list[str], read: Reader
) -> tuple[Figure, dict]:
    """Mean images along the straight line between two latents, over the mix of the two images."""
    t = torch.linspace(0, 1, 11)
    mix = t.view(-1, 1).to(ends)
    means = decode(model, (1 - mix) * ends[0] + mix * ends[1])
    blends = (1 - t.view(-1, 1, 1, 1)) * x[0] + t.view(-1, 1, 1, 1) * x[1]
    digits = read(means).tolist()
    over = [f"t={s:.1f}: {digit}" for s, digit in zip(t.tolist(), digits, strict=True)]
    figure = image_rows(
        [torch.cat([x[:1], means.cpu(), x[1:]]), torch.cat([x[:1], blends, x[1:]])],
        ["mean image at\n$(1-t)\\,\\mu_0 + t\\,\\mu_1$", "for contrast:\nmix of the pixels"],
        f"Interpolation in the latent space from {names[0]} to {names[1]}",
        [
            ["image", *over, "image"],
            ["image", *[""] * len(t), "image"],
        ],
        size=1.0,
    )
    return figure, {"t": t.tolist(), "read_as": digits}


def endpoints_figure(
    model: Model, guide: MeanField, x: Tensor, ends: Tensor, names: list[str]
) -> tuple[Figure, dict]:
    """Guide and exact posterior at both ends, in the plane of the interpolation.

    The horizontal axis runs along the interpolation, 0 and 1 being its ends; the vertical axis is
    the direction at right angles to it in which the two posteriors spread most.
    """
    line = ends[1] - ends[0]
    unit = line / line.norm()
    rough = guide_samples(guide, x, num_samples=1500, seed=SEED)  # (1500, 2, d)
    refined = Refined(model, guide)
    exact, ess = posterior_samples(model, refined, x, num_draws=1500, num_samples=5000, seed=SEED)
    centred = (exact - exact.mean(0)).flatten(0, 1)
    across = centred - (centred @ unit)[:, None] * unit
    vertical = torch.linalg.svd(across, full_matrices=False).Vh[0]
    figure = Figure(figsize=(8.6, 4.4))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    origin = ends[0]
    for kind, draws in (("guide", rough), ("posterior", exact)):
        for b, z in enumerate(draws.unbind(1)):
            u, v = (z - origin) @ line / line.norm() ** 2, (z - origin) @ vertical
            label = {"guide": "guide $q(z\\,|\\,x)$", "posterior": "posterior $p(z\\,|\\,x)$"}[kind]
            ax.plot(
                u.cpu(), v.cpu(), ".", ms=2.2, alpha=0.45, color=COLOURS[kind],
                label=label if b == 0 else None, rasterized=True,
            )  # fmt: skip
    ax.plot([0, 1], [0, float((ends[1] - origin) @ vertical)], "k-", lw=1, label="interpolation")
    ax.set(
        xlabel=f"along the interpolation: 0 = {names[0]}, 1 = {names[1]}",
        ylabel="widest direction across",
        title="Where the two ends may lie: 1,500 draws each, in the interpolation's plane",
    )
    ax.legend(markerscale=5, fontsize=9)
    return figure, {"effective_sample_size": ess.tolist(), "num_samples": 5000}


def training_figure(history: list[dict]) -> Figure:
    figure = Figure(figsize=(6, 3.6))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    epochs = [record["epoch"] for record in history]
    for key, label, colour in (
        ("train_elbo", "training images, as the weights move", COLOURS["guide"]),
        ("test_elbo", "test images, after the epoch", COLOURS["posterior"]),
    ):
        ax.plot(epochs, [record[key] for record in history], "o-", ms=4, color=colour, label=label)
    ax.set(xlabel="epoch", ylabel="ELBO, nats per image", title="Training")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return figure


def main() -> None:
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument("--latent-dim", type=int, default=4, help="dimensions of z")
    parser.add_argument("--images", type=int, nargs=4, metavar="I", help="training images to show")
    args = parser.parse_args()
    check_latent_dim(args.latent_dim)
    data = load_data(args)
    shown = check_indices(args.images or list(data.showcase), data.train_images, "--images")
    print(
        "question (a): reconstructions, noise, random images, interpolation. About 1 minute on 2 "
        "cores with a trained checkpoint, 7 minutes with 10 epochs of training."
    )
    model, guide, config = trained_vae(args, data, args.latent_dim)
    folder = args.results / (
        "question_a" if args.latent_dim == 4 else f"question_a_d{args.latent_dim}"
    )
    x = data.train_images[shown].to(args.device)
    names = [f"image {index}" for index in shown]
    noise_x, noise_name, noise_label = x[2:3], names[2], int(data.train_labels[shown[2]])
    ends_x, ends_names = x[[1, 3]], [names[1], names[3]]
    with torch.no_grad():
        ends = guide.encoder(ends_x)[0]
    read, accuracy = nearest_neighbour_reader(data)

    figures: dict[str, Figure] = {}
    figures["training"] = training_figure(config["history"])
    figures["reconstructions"] = reconstructions(model, guide, x, names)
    figures["noise"], readings = noise_figure(model, guide, noise_x, noise_name, read)
    curves = noise_curves(model, guide, noise_x, noise_label, data, read)
    figures["noise_curves"] = curves_figure(curves, noise_name)
    figures["random"] = random_images(model, args.latent_dim)
    figures["interpolation"], path = interpolation(model, ends, ends_x, ends_names, read)
    figures["endpoints"], posterior = endpoints_figure(model, guide, ends_x, ends, ends_names)
    elbo = log_likelihood(
        model, guide, data.test_images.to(args.device), num_samples=1, progress="test ELBO"
    ).elbo

    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png", data.name)
    metrics = {
        "test_elbo": {
            "estimator": "ELBO, one sample an image, grey pixels",
            "mean": float(elbo.mean()),
            "se_over_images": float(elbo.std(ddof=1) / np.sqrt(len(elbo))),
            "num_images": len(elbo),
        },
        "images": dict(zip(map(str, shown), data.train_labels[shown].tolist(), strict=True)),
        "reader": {"kind": "5 nearest neighbours", "test_accuracy": accuracy},
        "noise_readings": readings,
        "noise_curves": curves,
        "noise_level_at_which_half_are_lost": {
            kind: {key: lost_at(curve["level"], share) for key, share in curve["share"].items()}
            for kind, curve in curves.items()
        },
        "interpolation": path,
        "endpoint_posteriors": posterior,
    }
    save_metrics(folder / "metrics.json", metrics, args, data, config)
    print(f"test ELBO {elbo.mean():.2f} nats per image; figures and metrics.json in {folder}")


if __name__ == "__main__":
    run(main)
