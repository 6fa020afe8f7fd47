"""Other digits in the style of a real image."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.question_d import SEED
from experiments.question_d.measures import STYLE_FEATURES
from experiments.question_d.styles import draw_styles, every_digit, styles_figure
from pyro_vae.analysis.plots import image_rows
from pyro_vae.analysis.sampling import decode_style, encode_style, posterior_samples
from pyro_vae.analysis.style import style_correlation
from pyro_vae.data import Dataset
from pyro_vae.vae import Vae


def style_sets(vae: Vae, data: Dataset, chosen: np.ndarray) -> dict[str, Figure]:
    """Four styles over ten digits: from the prior, and from the posteriors of four real images."""
    sets = decode_style(vae.model, *every_digit(draw_styles(vae, 4))).unflatten(0, (4, 10))
    x, y = data.test_images[chosen], data.test_labels[chosen]
    batch = vae.here(x, y)
    guide = vae.refined().guide
    own, _ = posterior_samples(vae.model, guide, *batch, num_draws=1, seed=SEED)
    with torch.no_grad():
        styles = vae.model.prior.style(own[0], batch[1]).cpu()
    transferred = decode_style(vae.model, *every_digit(styles)).unflatten(0, (4, 10))
    return {
        "styles": styles_figure(sets),
        "transfer": transfer_figure(x, y.tolist(), transferred),
    }


def transfer(vae: Vae, data: Dataset, count: int) -> dict:
    """Do other digits in the style of a real image share its features? Of `count` test images."""
    x, y = data.test_images[:count], data.test_labels[:count]
    styles = encode_style(vae.model, vae.guide, x, y, num_samples=1, seed=SEED)[0]
    images = decode_style(vae.model, *every_digit(styles))
    found = {
        name: style_correlation(feature(x), feature(images).reshape(-1, 10), y.numpy())
        for name, feature in STYLE_FEATURES.items()
    }
    return {"images": len(x), **found}


def transfer_figure(x: Tensor, labels: list[int], sets: Tensor) -> Figure:
    """Each real image, and its style on all ten digits."""
    rows = [torch.cat([x[i : i + 1], row]) for i, row in enumerate(sets)]
    titles = ["image x", *[f"y = {digit}" for digit in range(10)]]
    return image_rows(
        rows,
        [f"a {label}" for label in labels],
        "The style of a real image on all ten digits: one draw of its posterior for each row",
        [titles] + [[""] * 11] * (len(rows) - 1),
        size=1.0,
    )
