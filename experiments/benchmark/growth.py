"""How cost grows with the work."""

import statistics

from torch import Tensor

from experiments.benchmark.contenders import fresh_weights, our_likelihood
from experiments.benchmark.turns import take_turns
from pyro_vae.networks.appendix import State

SEED = 6


# images or samples that stay as they are while another thing grows
REST = {
    "images": "x 100 samples",
    "samples": "x 20 images",
    "latent dimensions": "(100 x 100)",
}


def growth(x: Tensor, state: State, device: str) -> dict[str, list[dict]]:
    """Seconds and peak memory of log p(x), as images, samples and latent dimensions grow.

    Each setting has a process of its own, so that its peak is its own.
    """
    settings = {
        "images": [
            (n, {"images": x[:n], "num_samples": 100}) for n in (100, 400, 1600) if n <= len(x)
        ],
        "samples": [(k, {"images": x[:20], "num_samples": k}) for k in (100, 1000, 10_000)],
        "latent dimensions": [
            (d, {"images": x[:100], "num_samples": 100, "state": fresh_weights(d, SEED)})
            for d in (2, 8, 32, 64)
        ],
    }
    found = {}
    for what, rows in settings.items():
        found[what] = []
        for number, options in rows:
            one = {"ours": (our_likelihood, {"state": state} | options)}
            row = take_turns(one, 3, f"{number:,} {what}", device)["ours"]
            found[what].append(
                {
                    what: number,
                    "seconds": statistics.median(row["seconds"]),
                    "peak_mib": row["peak_mib"],
                }
            )
    return found
