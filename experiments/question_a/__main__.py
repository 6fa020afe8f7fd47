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

from experiments.cli import announce_and_load, check_at_least, folder_name, make_parser, run
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae.analysis.interventions import gaussian_noise, salt_and_pepper
from pyro_vae.analysis.judges import Judge, knn_judge
from pyro_vae.analysis.plots import COLOURS, image_rows
from pyro_vae.analysis.sampling import decode, guide_samples, pixel_samples, posterior_samples
from pyro_vae.data import Dataset, check_indices
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.models import Model

SEED = 1  # of everything drawn for the figures; the training has its own

# name: (function, levels shown, levels measured)
NOISES = {
    "Gaussian noise": (
        gaussian_noise,
        [0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.2],
        [0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0, 1.6],
    ),
    "salt and pepper": (
        salt_and_pepper,
        [0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7],
        [0, 0.02, 0.04, 0.06, 0.1, 0.2, 0.3, 0.5, 0.8],
    ),
}


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
    model: Model, guide: MeanField, x: Tensor, name: str, read: Judge
) -> tuple[Figure, dict]:
    """The image under each kind of noise, and reconstructions of each noisy image.

    Once from the guide, and once from the exact posterior p(z | noisy image), which is what the
    guide stands for: where the two differ, the encoder and not the model has lost the digit.
    """
    rows, labels, titles, readings = [], [], [], {}
    for kind, (add_noise, shown, _) in NOISES.items():
        rng = torch.Generator().manual_seed(SEED)
        noisy = torch.cat([add_noise(x, level, rng) for level in shown])
        rows.append(noisy)
        labels.append(f"{name}\nwith {kind}")
        titles.append([f"level {level:g}" for level in shown])
        readings[kind] = {"level": shown}
        for source, symbol, z in (
            ("guide", "q", guide_samples(guide, noisy, num_samples=1, seed=SEED)),
            ("posterior", "p", exact_samples(model, guide, noisy)[0]),
        ):
            means = decode(model, z[0])
            digits = read(means).tolist()
            rows.append(means)
            labels.append(f"mean at one draw of\n{source} ${symbol}(z\\,|\\,noisy)$")
            titles.append([f"read as {digit}" for digit in digits])
            readings[kind][source] = digits
    title = "Noisy images, and what their reconstructions are read as by 5 nearest neighbours"
    return image_rows(rows, labels, title, titles, size=1.2), readings


def exact_samples(model: Model, guide: MeanField, x: Tensor) -> tuple[Tensor, Tensor]:
    """One draw of each posterior, `(1, B, d)`, by resampling 1,000 samples of the refined guide.

    And the effective sample sizes behind the draws, `(B,)`: how near to exact they are.
    """
    return posterior_samples(model, Refined(model, guide), x, num_draws=1, seed=SEED)


@torch.no_grad()
def noise_curves(
    model: Model,
    guide: MeanField,
    x: Tensor,
    label: int,
    data: Dataset,
    read: Judge,
    fits: int,
) -> dict[str, dict]:
    """For each kind and level of noise, the share of reconstructions read as the true digit.

    Of image `x` under 200 draws of noise; of the first 400 test images under one each; of image `x`
    with the latent drawn from the posterior (`fits` draws: each costs one); and of an image with
    nothing on it but noise, which shows how much of a reading the noise itself brings.
    """
    curves = {}
    test = data.test_images[:400].to(x.device)
    sets = {
        "image": (x.expand(200, -1, -1, -1), np.full(200, label)),
        "test": (test, data.test_labels[: len(test)].numpy()),
        "posterior": (x.expand(fits, -1, -1, -1), np.full(fits, label)),
        "nothing": (torch.zeros_like(x).expand(200, -1, -1, -1), np.full(200, label)),
    }
    for kind, (add_noise, _, levels) in NOISES.items():
        rng = torch.Generator().manual_seed(SEED)
        shares: dict[str, list[float]] = {name: [] for name in sets}
        sizes = []
        for level in tqdm(levels, desc=f"levels of {kind}"):
            for name, (images, truth) in sets.items():
                noisy = add_noise(images, float(level), rng)
                if name == "posterior":
                    z, ess = exact_samples(model, guide, noisy)
                    sizes.append({"median": float(ess.median()), "min": float(ess.min())})
                else:
                    z = guide_samples(guide, noisy, num_samples=1, seed=SEED)
                shares[name].append(float((read(decode(model, z[0])) == truth).mean()))
        draws = {name: len(images) for name, (images, _) in sets.items()}
        curves[kind] = {
            "level": levels,
            "share": shares,
            "draws": draws,
            "effective_sample_size_of_1000": sizes,
        }
    return curves


def lost_between(levels: list[float], shares: list[float]) -> list[float] | None:
    """The two levels between which the share first falls below one half; None if it never does."""
    for i in range(1, len(levels)):
        if shares[i] < 0.5 <= shares[i - 1]:
            return [levels[i - 1], levels[i]]
    return None


def curves_figure(curves: dict, name: str) -> Figure:
    """What is read against the noise level, for each kind of noise."""
    figure = Figure(figsize=(9.8, 4.1))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(curves), sharey=True)
    for ax, (kind, curve) in zip(axes, curves.items(), strict=True):
        levels = np.array(curve["level"])
        for key, what, colour in (
            ("posterior", f"{name}, $z$ from the posterior", COLOURS["posterior"]),
            ("image", f"{name}, $z$ from the guide", COLOURS["guide"]),
            ("test", "test images, $z$ from the guide", "0.45"),
            ("nothing", "noise alone, $z$ from the guide", "0.75"),
        ):
            share, draws = np.array(curve["share"][key]), curve["draws"][key]
            # plus two successes and two failures, so that 0 and 1 have an interval (Agresti, Coull)
            se = np.sqrt((share * draws + 2) * (draws - share * draws + 2) / (draws + 4) ** 3)
            low, high = np.clip([share - 1.96 * se, share + 1.96 * se], 0, 1)
            ax.plot(levels, share, "o-", ms=3.5, color=colour, label=what)
            ax.fill_between(levels, low, high, color=colour, alpha=0.2)
        ax.axhline(0.5, color="0.4", lw=0.8, ls="--")
        ax.set(xlabel=f"level of {kind}", ylim=(-0.02, 1.04), title=kind)
    figure.axes[0].set_ylabel("reconstructions read as the true digit")
    figure.axes[0].legend(fontsize=8, loc="upper right")
    figure.suptitle("Where noise changes the reconstructed digit (95% intervals)")
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
    model: Model, ends: Tensor, x: Tensor, names: list[str], read: Judge
) -> tuple[Figure, dict]:
    """Mean images along the straight line between two latents, over the mix of the two images."""
    t = torch.linspace(0, 1, 11).to(ends)
    means = decode(model, torch.lerp(ends[0], ends[1], t[:, None]))
    blends = torch.lerp(x[0], x[1], t[:, None, None, None])
    digits = read(means).tolist()
    over = [f"t = {s:.1f}\nread as {digit}" for s, digit in zip(t.tolist(), digits, strict=True)]
    figure = image_rows(
        [torch.cat([x[:1], means, x[1:]]), torch.cat([x[:1], blends, x[1:]])],
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

    The horizontal axis runs along the interpolation, the vertical one in the direction at right
    angles to it in which the two posteriors spread most; both in lengths of the interpolation.
    """
    line = ends[1] - ends[0]
    refined = Refined(model, guide)
    exact, ess = posterior_samples(model, refined, x, num_draws=1500, num_samples=5000, seed=SEED)
    rough = guide_samples(guide, x, num_samples=5000, seed=SEED)  # (5000, 2, d)
    centred = (exact - exact.mean(0)).flatten(0, 1)
    across = centred - (centred @ line)[:, None] * line / line.norm() ** 2
    vertical = torch.linalg.svd(across, full_matrices=False).Vh[0] * line.norm()
    plane = torch.stack([line, vertical], 1) / line.norm() ** 2  # (d, 2)
    figure = Figure(figsize=(9.6, 3.9))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    for b in (0, 1):
        dots = ((exact[:, b] - ends[0]) @ plane).cpu()
        ax.plot(*dots.T, ".", ms=2.2, alpha=0.5, color=COLOURS["posterior"], rasterized=True)
        cloud = ((rough[:, b] - ends[0]) @ plane).cpu().numpy()
        variances, axes = np.linalg.eigh(np.cov(cloud.T))
        turn = np.linspace(0, 2 * np.pi, 100)
        circle = axes @ (np.sqrt(variances)[:, None] * [np.cos(turn), np.sin(turn)])
        for deviations in (1, 2):
            ax.plot(*(cloud.mean(0)[:, None] + deviations * circle), color=COLOURS["guide"], lw=1.8)
    ax.plot([], [], ".", ms=9, color=COLOURS["posterior"], label="posterior, 1,500 draws")
    ax.plot([], [], color=COLOURS["guide"], label="guide, 1 and 2 standard deviations")
    ax.plot([0, 1], [0, 0], "k-", lw=1, label="interpolation")
    ax.set(
        xlabel=f"along the interpolation: 0 = {names[0]}, 1 = {names[1]}",
        ylabel="widest direction across",
        title="Posterior and guide at both ends; the unit is the length of the interpolation",
    )
    ax.set_aspect("equal", adjustable="datalim")
    figure.legend(fontsize=9, loc="outside lower center", ncols=3)
    return figure, {"effective_sample_size": ess.tolist(), "num_samples": 5000}


def training_figure(history: list[dict]) -> Figure:
    """The ELBO of training and test images, epoch by epoch."""
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
    """Train or load the autoencoder, draw the figures of (a) and write the metrics."""
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs=4, metavar="I", help="training images to show")
    parser.add_argument(
        "--fits", type=int, default=20, metavar="N", help="posteriors fitted at each noise level"
    )
    args = parser.parse_args()
    check_at_least("--fits", args.fits, 1)
    data = announce_and_load(
        args,
        "question (a): reconstructions, noise, random images, interpolation. About 1 minute on 2 "
        "cores with a trained checkpoint, 7 minutes with 10 epochs of training.",
    )
    shown = check_indices(args.images or list(data.showcase), data.train_images, "--images")
    if len(set(shown)) < 4:
        raise InputError(f"--images: {shown} must be four different images")
    results = Results(args, data, folder_name(args, "question_a"))
    vae = load_or_train(args, data, Spec(args.latent_dim), path=args.checkpoint)
    model, guide, config = vae.model, vae.guide, vae.config
    results.training = config
    x = data.train_images[shown].to(args.device)
    names = [f"image {index}" for index in shown]
    noise_x, noise_name, noise_label = x[2:3], names[2], int(data.train_labels[shown[2]])
    ends_x, ends_names = x[[1, 3]], [names[1], names[3]]
    with torch.no_grad():
        ends = guide.q(ends_x).mean
    read, accuracy = knn_judge(data)

    figures: dict[str, Figure] = {}
    if config.get("history"):
        figures["training"] = training_figure(config["history"])
    figures["reconstructions"] = reconstructions(model, guide, x, names)
    figures["noise"], readings = noise_figure(model, guide, noise_x, noise_name, read)
    curves = noise_curves(model, guide, noise_x, noise_label, data, read, args.fits)
    figures["noise_curves"] = curves_figure(curves, noise_name)
    figures["random"] = random_images(model, args.latent_dim)
    figures["interpolation"], path = interpolation(model, ends, ends_x, ends_names, read)
    posterior = None
    if args.latent_dim > 1:  # else there is no plane
        figures["endpoints"], posterior = endpoints_figure(model, guide, ends_x, ends, ends_names)
    elbo = log_likelihood(
        model, guide, data.test_images.to(args.device), num_samples=1, progress="test ELBO"
    ).elbo

    results.draw(**figures)
    metrics = {
        "test_elbo": {
            "estimator": "ELBO, one sample an image, grey pixels",
            "mean": float(elbo.mean()),
            "se_over_images": float(elbo.std(ddof=1) / np.sqrt(len(elbo))),
            "num_images": len(elbo),
        },
        "images": dict(zip(map(str, shown), data.train_labels[shown].tolist(), strict=True)),
        "reader": {"kind": "5 nearest of 20,000 training images", "test_accuracy": accuracy},
        "noise_readings": readings,
        "noise_curves": curves,
        "half_are_lost_between": {
            kind: {k: lost_between(curve["level"], share) for k, share in curve["share"].items()}
            for kind, curve in curves.items()
        },
        "interpolation": path,
        "endpoint_posteriors": posterior,
    }
    for name, value in metrics.items():
        results.add(name, value)
    print(
        f"test ELBO {elbo.mean():.2f} nats per image; figures and metrics.json in {results.folder}"
    )


if __name__ == "__main__":
    run(main)
