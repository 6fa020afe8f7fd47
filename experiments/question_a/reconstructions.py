"""What does the autoencoder keep of an image, and what does it draw by itself?

The coursework asks for two reconstructions of each of four images, and for six random images. A
reconstruction is a draw: the latent is sampled from the guide. It is shown twice, as the mean image
of p(x | z), and as pixels drawn from it, since those are what the model says an image looks like.
"""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_a import SEED
from pyro_vae.analysis.plots import image_rows
from pyro_vae.analysis.sampling import pixel_samples
from pyro_vae.vae import Vae


def figure(vae: Vae, x: Tensor, names: list[str]) -> Figure:
    """Draw each image of `x`, its two reconstructions, and pixels drawn from both."""
    means = vae.reconstruct(x, num_samples=2, seed=SEED)  # (2, B, 1, 28, 28)
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


def random_figure(vae: Vae, count: int = 6) -> Figure:
    """Draw `count` images from the model: decoded draws of the prior."""
    means = vae.sample(count, seed=SEED)
    return image_rows(
        [means, pixel_samples(means, SEED)],
        ["mean image\n$E[x\\,|\\,z]$", "sampled pixels\n$x\\sim p(x\\,|\\,z)$"],
        f"{count} random images: $z\\sim N(0, I_{{{vae.latent_dim}}})$",
        size=1.3,
    )
