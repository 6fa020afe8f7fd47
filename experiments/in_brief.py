"""Questions (b), (c) and (d) in brief: one figure each, from autoencoders that are trained already.

log p(x) of a few test images by the refined guide says which are likely (b), and how much 20 latent
dimensions gain over 4 (c); the style of a real image is drawn on every digit (d). The questions'
own scripts have the whole answers.

    python -m experiments.in_brief
"""

import numpy as np

from experiments.cli import announce_and_load, check_at_least, make_parser, run
from experiments.question_b.extremes import gallery
from experiments.question_b.shared import refined_log_p
from experiments.question_c.scores import by_class_figure
from experiments.question_d import transfer
from experiments.question_d.conditional import conditional
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae.data.dataset import random_positions
from pyro_vae.likelihood.intervals import mean_interval

SEED = 30


def main() -> None:
    """Score some images by two autoencoders, transfer four styles, and say what was found."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=None, fixed=("checkpoint", "train"))
    parser.add_number("--images", 200, "test images that are scored")
    args = parser.parse_args()
    check_at_least("--images", args.images, 20)
    data = announce_and_load(
        args,
        "questions (b), (c) and (d) in brief: one figure each. About 2 minutes on 2 cores where "
        "the autoencoders are there.",
        labels=True,
    )
    results = Results(args, data, "in_brief")
    vaes = {d: load_or_train(args, data, Spec(d)) for d in (4, 20)}
    chosen = random_positions(data.test_images, args.images, SEED)
    x, labels = data.test_images[chosen], data.test_labels[chosen].numpy()
    scores = {d: refined_log_p(vae, x, f"log p(x), d = {d}").value for d, vae in vaes.items()}

    order = np.argsort(-scores[4])
    rows = {
        name: [{"image": int(i), "refined": float(scores[4][i])} for i in some]
        for name, some in (("likeliest", order[:6]), ("unlikeliest", order[-6:]))
    }
    title = f"(b) The likeliest and the unlikeliest of {len(x)} test images, d = 4"
    results.draw(question_b=gallery(x, rows, title))

    gain = scores[20] - scores[4]
    by_class = {
        data.classes[label]: mean_interval(gain[labels == label]) for label in np.unique(labels)
    }
    gains = {"all": mean_interval(gain), "by_class": by_class}
    title = f"(c) d = 20 gains {gain.mean():.0f} nats of log p(x) over d = 4"
    results.add("gains", gains, question_c=by_class_figure(by_class, gains["all"], title))

    results.draw(question_d=transfer.figure(conditional(args, data), data))
    results.finish()
    print(
        f"(b) likely: the first row of question_b.png. (c) d = 20 gains {gain.mean():.1f} nats. "
        f"(d) one style on every {data.noun}: question_d.png. Figures in {results.folder}; the "
        "whole answers are in results/README.md"
    )


if __name__ == "__main__":
    run(main)
