"""The same work, each contender against the plain way."""

import importlib.util

from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

from experiments.benchmark.contenders import (
    our_likelihood,
    our_training,
    plain_likelihood,
    plain_training,
    pyro_likelihood,
    pythae_likelihood,
    refined_likelihood,
)
from experiments.benchmark.turns import Contenders, compared, take_turns
from pyro_vae.networks.appendix import State
from pyro_vae.networks.precision import resolve_precision

TITLES = {
    "training": "training",
    "log_p_100": "log p(x), 100 samples",
    "log_p_1000": "log p(x), 1,000 samples",
}


def speed(x: Tensor, state: State, rounds: int, device: str) -> dict:
    """Training and log p(x), each contender against the plain way."""
    some = {"images": x[:2000], "state": state}
    training: Contenders = {
        "plain": (plain_training, some),
        "plain, memory kept": (plain_training, some | {"keep": True}),
        "ours, float32": (our_training, some | {"precision": "float32"}),
    }
    bfloat16 = resolve_precision("auto", device) == "bfloat16"
    if bfloat16:
        rounded = some | {"precision": "bfloat16"}
        training["ours, bfloat16 guide"] = (our_training, rounded)
        closed = rounded | {"elbo": TraceMeanField_ELBO}
        training["ours, bfloat16, closed KL"] = (our_training, closed)
    some = {"images": x[:200], "state": state, "num_samples": 100}
    scoring: Contenders = {
        "plain": (plain_likelihood, some),
        "plain, memory kept": (plain_likelihood, some | {"keep": True}),
        "ours": (our_likelihood, some),
        "ours, memory not kept": (our_likelihood, some | {"keep": False}),
        "Pyro, image by image": (pyro_likelihood, some),
    }
    if importlib.util.find_spec("pythae"):
        scoring["pythae get_nll"] = (pythae_likelihood, some)
    some = {"images": x[:100], "state": state, "num_samples": 1000}
    tighter: Contenders = {
        "plain": (plain_likelihood, some),
        "plain, memory kept": (plain_likelihood, some | {"keep": True}),
        "ours": (our_likelihood, some),
        "ours, refined": (refined_likelihood, some),
    }
    if bfloat16:
        tighter["ours, refined in bfloat16"] = (
            refined_likelihood,
            some | {"precision": "bfloat16"},
        )
    tighter["ours, refined, one start"] = (
        refined_likelihood,
        some | {"precision": "auto", "num_starts": 1},
    )
    found = {}
    for key, contenders in (
        ("training", training),
        ("log_p_100", scoring),
        ("log_p_1000", tighter),
    ):
        if device != "cpu":  # whose memory is not the C library's to keep
            contenders = {name: row for name, row in contenders.items() if "keep" not in row[1]}
        images = len(contenders["plain"][1]["images"])
        rows = take_turns(contenders, rounds, TITLES[key], device)
        found[key] = compared(rows, images, "plain")
    return found
