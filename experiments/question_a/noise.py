"""How much noise does a reconstruction survive?

The coursework asks for reconstructions of a noisy image. Beyond that: at which level is the digit
lost, and who loses it, the encoder or the model? The encoder stands for the posterior p(z | noisy
image); where a draw of the posterior keeps the digit and a draw of the guide does not, the encoder
has lost it. A model that expects specks shows whether the likelihood of the pixels is to blame.
What a reconstruction shows is read by nearest neighbours, which know nothing of the autoencoder.
"""

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from experiments.question_a import SEED
from experiments.question_a.reader import Reader
from pyro_vae.analysis.interventions import gaussian_noise, salt_and_pepper
from pyro_vae.analysis.judges import Judge
from pyro_vae.analysis.plots import COLOURS, image_rows
from pyro_vae.analysis.sampling import posterior_samples
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.likelihood.intervals import proportion_interval
from pyro_vae.models import GreyBernoulli, Model
from pyro_vae.vae import Vae

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


class Shown(NamedTuple):
    """The image that noise is added to."""

    x: Tensor  # (1, 1, 28, 28)
    name: str
    label: int


def posterior_draws(vae: Vae, x: Tensor) -> tuple[Tensor, Tensor]:
    """Draw once from each posterior, `(B, d)`, by resampling 1,000 samples of the refined guide.

    Also return the effective sample sizes behind the draws, `(B,)`: how near to exact they are.
    """
    z, ess = posterior_samples(vae.model, vae.refined().guide, x, num_draws=1, seed=SEED)
    return z[0], ess


def figures(vae: Vae, shown: Shown, reader: Reader) -> tuple[dict[str, Figure], dict]:
    """Draw the image under each kind of noise, and its reconstructions by guide and by posterior.

    Also return what the reconstructions are read as.
    """
    drawn, readings = {}, {}
    for source, symbol in (("guide", "q"), ("posterior", "p")):
        rows, labels, titles = [], [], []
        for noise, (add_noise, levels, _) in NOISES.items():
            rng = torch.Generator().manual_seed(SEED)
            noisy = torch.cat([add_noise(shown.x, level, rng) for level in levels])
            if source == "guide":
                means = vae.reconstruct(noisy, seed=SEED)[0]
            else:
                means = vae.decode(posterior_draws(vae, noisy)[0])
            read, read_as = reader.read(means)
            readings.setdefault(noise, {"level": levels})[source] = read
            rows += [noisy, means]
            labels += [f"{shown.name}\nwith {noise}", f"reconstructed,\n${symbol}(z\\,|\\,noisy)$"]
            titles += [[f"level {level:g}" for level in levels], read_as]
        title = f"Noisy images, and their reconstructions by the {source}"
        if reader.judge:
            title = f"Noisy images, and what the {source} makes of them (read by 5 neighbours)"
        drawn[source] = image_rows(rows, labels, title, titles, size=1.05)
    return drawn, readings


@torch.no_grad()
def measure(
    vae: Vae, shown: Shown, data: Dataset, judge: Judge, num_posteriors: int
) -> dict[str, dict]:
    """For each kind and level of noise, the share of reconstructions read as the true class.

    Of four sets: the image under 200 draws of noise; 400 random test images under one each; the
    image with the latent drawn from the posterior (`num_posteriors` draws: each costs a fit); and
    noise on a black image, which shows how much of a reading the noise itself brings.
    """
    chosen = random_positions(data.test_images, 400, SEED)
    test = data.test_images[chosen].to(shown.x.device)
    sets = {
        "image": (shown.x.expand(200, -1, -1, -1), np.full(200, shown.label)),
        "test": (test, data.test_labels[chosen].numpy()),
        "posterior": (
            shown.x.expand(num_posteriors, -1, -1, -1),
            np.full(num_posteriors, shown.label),
        ),
        "nothing": (
            torch.zeros_like(shown.x).expand(200, -1, -1, -1),
            np.full(200, shown.label),
        ),
    }
    curves = {}
    for noise, (add_noise, _, levels) in NOISES.items():
        rng = torch.Generator().manual_seed(SEED)
        shares: dict[str, list[dict]] = {name: [] for name in sets}
        sizes = []
        for level in tqdm(levels, desc=f"levels of {noise}"):
            for name, (images, truth) in sets.items():
                noisy = add_noise(images, float(level), rng)
                if name == "posterior":
                    z, ess = posterior_draws(vae, noisy)
                    sizes.append({"median": float(ess.median()), "min": float(ess.min())})
                    means = vae.decode(z)
                else:
                    means = vae.reconstruct(noisy, seed=SEED)[0]
                shares[name].append(proportion_interval(judge(means) == truth))
        curves[noise] = {
            "level": levels,
            "share": {name: [share["mean"] for share in of] for name, of in shares.items()},
            "share_ci95": {name: [share["ci95"] for share in of] for name, of in shares.items()},
            "draws": {name: len(images) for name, (images, _) in sets.items()},
            "effective_sample_size_of_1000": sizes,
        }
    return curves


def expecting_specks(vae: Vae, level: float) -> Vae:
    """Return the autoencoder with a likelihood that expects salt and pepper of this `level`.

    A pixel is replaced by black or white with probability `level`, at even odds. It is then white
    with probability level / 2 + (1 - level) p, where p is the decoder's.
    """

    def pixels(logits: Tensor) -> GreyBernoulli:
        return GreyBernoulli(probs=level / 2 + (1 - level) * logits.sigmoid())

    return Vae(Model(vae.model.decoder, pixels, vae.model.prior), vae.guide)


@torch.no_grad()
def measure_expecting(vae: Vae, shown: Shown, judge: Judge, count: int) -> dict:
    """Return the share read rightly under salt and pepper, by a model that expects it.

    The latents are drawn from that model's posterior: `count` draws of noise at each level.
    """
    add_noise, _, levels = NOISES["salt and pepper"]
    rng = torch.Generator().manual_seed(SEED)
    shares = []
    for level in tqdm(levels, desc="salt and pepper, expected"):
        noisy = add_noise(shown.x.expand(count, -1, -1, -1), float(level), rng)
        z, _ = posterior_draws(expecting_specks(vae, level), noisy)
        shares.append(proportion_interval(judge(vae.decode(z)) == shown.label))
    return {
        "level": levels,
        "share": [share["mean"] for share in shares],
        "share_ci95": [share["ci95"] for share in shares],
    }


def all_lost_between(curves: dict[str, dict]) -> dict[str, dict]:
    """Return `lost_between` of each kind of noise and each set of images."""
    return {
        kind: {name: lost_between(curve["level"], share) for name, share in curve["share"].items()}
        for kind, curve in curves.items()
    }


def lost_between(levels: list[float], shares: list[float]) -> list[float] | None:
    """Return the two levels between which the share first falls below one half, if it does."""
    for i in range(1, len(levels)):
        if shares[i] < 0.5 <= shares[i - 1]:
            return [levels[i - 1], levels[i]]
    return None


def curves_figure(curves: dict, expecting: dict, name: str, noun: str) -> Figure:
    """Plot the share that is read rightly against the noise level, for each kind of noise.

    `expecting` is of the model that expects salt and pepper.
    """
    figure = Figure(figsize=(9, 3.9))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(curves), sharey=True)
    for ax, (noise, curve) in zip(axes, curves.items(), strict=True):
        levels = np.array(curve["level"])
        for key, what, colour in (
            ("test", "test images, guide", "0.45"),
            ("image", f"{name}, guide", COLOURS["guide"]),
            ("posterior", f"{name}, posterior", COLOURS["posterior"]),
        ):
            ax.plot(levels, curve["share"][key], "o-", ms=3.5, color=colour, label=what)
            band = np.transpose(curve["share_ci95"][key])
            ax.fill_between(levels, *band, color=colour, alpha=0.2)
        ax.axhline(0.5, color="0.4", lw=0.8, ls="--")
        ax.set(xlabel=f"level of {noise}", ylim=(-0.02, 1.04))
    label = f"{name}, posterior,\nspecks expected"
    axes[-1].plot(
        expecting["level"], expecting["share"], "o--", ms=3.5, color=COLOURS["posterior"],
        label=label,
    )  # fmt: skip
    handles = axes[-1].lines[-1:]
    axes[-1].legend(handles=handles, loc="upper left", bbox_to_anchor=(0.27, 0.93))
    axes[0].set_ylabel(f"read as the true {noun}")
    axes[0].legend(loc="upper right", title="$z$ drawn for ... by the ...")
    figure.suptitle(f"Where noise changes the reconstructed {noun} (95% intervals)")
    return figure
