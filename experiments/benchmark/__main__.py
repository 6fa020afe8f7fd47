"""Speed, side by side: training and log p(x) against the appendix written plainly in PyTorch.

Every contender runs in a process of its own, renewed every few rounds; they take turns. Beyond
speed: how far this package is from what the processor can do, and how cost grows with the work.
`experiments.equal_quality` shows that the fast training is as good as the plain one.

    python -m experiments.benchmark
"""

import argparse

from matplotlib.figure import Figure

from experiments.benchmark import SEED, effort, growth, machine, scaling, speed
from experiments.benchmark.contenders import fresh_weights, our_training
from experiments.cli import (
    TRAINING,
    announce_and_load,
    check_at_least,
    folder_name,
    make_parser,
    run,
)
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae.data.dataset import Dataset, random_positions
from pyro_vae.networks.appendix import State, join_appendix

DIMS = (4, 20)  # of the trained autoencoders whose log p(x) is timed


def options() -> argparse.Namespace:
    """Parse and check the options of the script."""
    fixed = (*TRAINING, "checkpoint", "train", "resume")
    parser = make_parser(__doc__.splitlines()[0], latent_dim=20, fixed=fixed)
    parser.add_number("--rounds", 9, "timed rounds of each contender")
    parser.add_number("--images", 1000, "test images that several processes score")
    args = parser.parse_args()
    check_at_least("--rounds", args.rounds, 1)
    check_at_least("--images", args.images, 2)
    return args


def tables(metrics: dict) -> dict[str, dict]:
    """Return the tables of contenders by their titles."""
    found = {title: metrics["speed"][key] for key, title in speed.TITLES.items()}
    for d, row in metrics["effort"].items():
        found[f"log p(x), 1,000 samples or to 0.1 nats, d = {d[1:]}"] = row["turns"]
    return found


def figure(metrics: dict) -> Figure:
    """Draw the speed of each contender."""
    figure = Figure(figsize=(10.5, 6))
    figure.set_layout_engine("constrained")
    speed.draw(figure.subplots(2, 2).ravel(), tables(metrics))
    figure.suptitle("Speed, each contender in a process of its own, taking turns")
    return figure


def trained_weights(args: argparse.Namespace, data: Dataset, latent_dim: int) -> State:
    """Return the weights of the trained autoencoder, on the CPU."""
    vae = load_or_train(args, data, Spec(latent_dim)).to("cpu")
    return join_appendix(vae.model.decoder.state_dict(), vae.guide.encoder.state_dict())


def main() -> None:
    """Time the contenders and this package's parts; write each result when it is known."""
    args = options()
    data = announce_and_load(
        args,
        "benchmark: seconds of training and of log p(x), beside other code. About an hour on 2 "
        "cores, 10 minutes on one GPU. Leave the machine to it.",
    )
    name = "benchmark" if args.device == "cpu" else "benchmark_gpu"
    results = Results(args, data, folder_name(args, name, 20))
    results.training = {"epochs": 1}
    # train for one epoch, so that the work is timed with weights that are no longer random
    start = fresh_weights(args.latent_dim, SEED)
    state = our_training(data.train_images.to(args.device), start, "auto")()
    state = {name: w.cpu() for name, w in state.items()}
    x = data.test_images
    chosen = random_positions(x, 100, SEED)

    results.add("speed", speed.measure(x, state, args.rounds, args.device))
    states = {d: trained_weights(args, data, d) for d in DIMS}
    results.add("effort", effort.measure(states, x[chosen], args.rounds, args.device))
    results.draw(effort=effort.figure(results.metrics["effort"]))
    print(speed.as_text(tables(results.metrics)))
    print(effort.as_text(results.metrics["effort"]))
    results.add("distance", machine.measure(x, state, args.device))
    print(machine.as_text(results.metrics["distance"]))
    metrics = growth.measure(x, state, args.device)
    results.add("growth", metrics, growth=growth.figure(metrics))
    results.draw(benchmark=figure(results.metrics))
    results.add("scaling", scaling.measure(args, args.images, min(3, args.rounds)))
    if results.metrics["scaling"]:
        print(scaling.as_text(results.metrics["scaling"]))
    results.finish()
    print(f"figure and metrics.json in {results.folder}")


if __name__ == "__main__":
    run(main)
