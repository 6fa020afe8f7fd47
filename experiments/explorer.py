"""Write a page to play with the trained autoencoders, and open it: one file, no server, no network.

The page has the autoencoders with 4 and 20 latent dimensions and the one that takes labels, or that
of --checkpoint alone. `Vae.to_html` does the same for any autoencoder.

    python -m experiments.explorer
"""

import os
import webbrowser
from pathlib import Path

from experiments.cli import announce_and_load, check_at_least, make_parser, results_root, run
from experiments.question_d import DIM
from experiments.question_d.conditional import conditional
from experiments.trained import Spec, load_or_train
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.explorer.page import SHOWN, write_page
from pyro_vae.storage.files import check_folder
from pyro_vae.vae import Vae

SEED = 31


def main() -> None:
    """Load or train the autoencoders, write the page and open it."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=None, fixed=("train",))
    parser.add_number("--images", 800, "test images whose means of z are shown")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="show this autoencoder alone (default: three)",
    )
    parser.add_argument("--closed", action="store_true", help="don't open the page")
    args = parser.parse_args()
    check_at_least("--images", args.images, SHOWN)
    data = announce_and_load(
        args, "explorer: a page to play with the autoencoders. A few seconds where they are there."
    )
    if args.checkpoint:
        vaes = {args.checkpoint.stem: Vae.load(args.checkpoint)}
    else:
        vaes = {f"d = {d}": load_or_train(args, data, Spec(d)) for d in (4, 20)}
        if data.classes:
            vaes[f"with labels, d = {DIM}"] = conditional(args, data)
    chosen = shown_first(data, args.images)
    folder = results_root(args, data)
    check_folder(folder)
    path = folder / "explorer.html"
    labels = data.test_labels[chosen] if data.classes else None
    options = {"progress": "refined log p(x) of the images that are shown"}
    programs = {name: (vae.model, vae.guide) for name, vae in vaes.items()}
    write_page(programs, path, data.test_images[chosen], labels, data.classes or ("",), **options)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, one file: open it in a browser, or send it")
    if not args.closed and not os.environ.get("CI"):
        webbrowser.open(Path(path).resolve().as_uri())


def shown_first(data: Dataset, count: int) -> list[int]:
    """Return the positions of `count` test images: first SHOWN, of as many classes as there are."""
    others = random_positions(data.test_images, len(data.test_images), SEED).tolist()
    classes = max(1, len(data.classes))
    each = [
        [i for i in others if data.test_labels[i] == label][: -(-SHOWN // classes)]
        for label in range(classes)
    ]
    first = [i for of_class in each for i in of_class] if data.classes else others
    first = first[:SHOWN]
    rest = [i for i in others if i not in {*first}]
    return [*first, *rest][:count]


if __name__ == "__main__":
    run(main)
