"""Do other digits, drawn in the style of a real image, share its features?

The style of an image x with label y is e = T_y^-1(z), z ~ q(z | x, y) or p(z | x, y). It is given
to the other nine digits. A generator could share styles drawn from N(0, I) among the digits and
still give a real image a style that does not fit it: so real images are tried as well.
"""

import torch
from matplotlib.figure import Figure

from experiments.question_d import SEED
from experiments.question_d.disentanglement import STYLE_FEATURES
from experiments.question_d.styles import IN_A_ROW, every_class, some_classes, title_of
from pyro_vae.analysis.plots import COLOURS, show_image
from pyro_vae.analysis.sampling import decode_style, encode_style, posterior_samples
from pyro_vae.analysis.style import style_correlation
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.vae import Vae

SHOWN = (2, 5, 7, 8)  # the digits of the real images shown


def measure(vae: Vae, data: Dataset, count: int) -> dict:
    """Correlate the features of `count` test images with those of digits drawn in their styles."""
    chosen = random_positions(data.test_images, count, SEED)
    x, y = data.test_images[chosen], data.test_labels[chosen]
    styles = encode_style(vae.model, vae.guide, x, y, num_samples=1, seed=SEED)[0]
    classes = len(data.classes)
    images = decode_style(vae.model, *every_class(styles, classes))
    correlations = {
        name: style_correlation(feature(x), feature(images).reshape(-1, classes), y.numpy())
        for name, feature in STYLE_FEATURES.items()
    }
    return {"images": len(x), **correlations}


def figure(vae: Vae, data: Dataset) -> Figure:
    """Show four real images and their styles, drawn from the posterior, on ten classes."""
    chosen, classes = some_classes(data, SHOWN), min(IN_A_ROW, len(data.classes))
    shown = torch.stack([(data.test_labels == label).nonzero()[3, 0] for label in chosen])
    x, y = vae.here(data.test_images[shown], data.test_labels[shown])
    z, _ = posterior_samples(vae.model, vae.refined().guide, x, y, num_draws=1, seed=SEED)
    with torch.no_grad():
        styles = vae.model.prior.style(z[0], y).cpu()
    images = decode_style(vae.model, *every_class(styles, classes)).unflatten(0, (-1, classes))
    figure = Figure(figsize=(1.0 * (classes + 1) + 0.6, 4.6))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(chosen), classes + 1, width_ratios=[1.25, *[1] * classes])
    for i, axes in enumerate(grid):
        for label, (ax, image) in enumerate(zip(axes[1:], images[i], strict=True)):
            show_image(ax, image, title_of(data, label) if i == 0 else "")
        show_image(axes[0], x[i], "real image" if i == 0 else "")
        for spine in axes[0].spines.values():  # a frame: this one is not drawn by the model
            spine.set(color=COLOURS["guide"], linewidth=3)
    figure.suptitle(f"The style of a real image (framed) on every {data.noun}")
    return figure
