"""Run each call on the CPU and on the imitated mps; print how far apart the results are, as JSON.

`python -m tests.apple_calls` is started by test_mps, in a process of its own.
"""

import copy
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

import pyro_vae as pv
from pyro_vae.analysis.classification import class_log_likelihoods
from pyro_vae.analysis.gaps import best_log_weights
from pyro_vae.analysis.rate_distortion import guide_rate_distortion, model_rate_distortion
from pyro_vae.analysis.sampling import (
    encode_style,
    posterior_mean,
    posterior_moments,
    posterior_samples,
)
from pyro_vae.likelihood.annealing import bidirectional_bounds
from tests import apple
from tests.test_torch_settings import (
    GUIDES,
    LABELLED,
    OTHERS,
    ROWS,
    SMALL,
    VAE,
    X,
    Y,
    clusters,
    clusters_guide,
    fitted,
    two,
    two_guide,
)  # fmt: skip


def placed(vae: pv.Vae, device: str) -> pv.Vae:
    return copy.deepcopy(vae).to(device)


def saved_and_loaded(device: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        placed(LABELLED, device).save(Path(folder) / "vae.pt")
        return pv.Vae.load(Path(folder) / "vae.pt", device=device).log_likelihood(X, Y).value


def resumed(device: str) -> object:
    with tempfile.TemporaryDirectory() as folder:
        vae, options = placed(VAE, device), {"batch_size": 2, "progress": False}
        for epochs in (1, 2):
            history = pv.fit(
                vae.model, vae.guide, (X.to(device),), epochs=epochs,
                state_path=Path(folder) / "state.pt", resume=epochs > 1, **options,
            )  # fmt: skip
        return [record["train_elbo"] for record in history]


def over(call: Callable, vae: pv.Vae = VAE) -> Callable[[str], object]:
    """The call of (vae, images, labels) on a device."""
    return lambda device: call(placed(vae, device), X.to(device), Y.to(device))


CALLS = {
    "log p": over(lambda v, x, y: v.log_likelihood(X)),
    "mask": over(lambda v, x, y: v.log_likelihood(x, mask=X[0] > 0.5)),
    "with labels": over(lambda v, x, y: v.log_likelihood(x, y), LABELLED),
    "without labels": over(lambda v, x, y: v.log_likelihood(X), LABELLED),
    "refined": over(lambda v, x, y: v.refined(**SMALL).log_likelihood(x)),
    "annealed": over(lambda v, x, y: pv.annealed_log_likelihood(v.model, v.guide, x, num_steps=3)),
    "bounds": over(lambda v, x, y: bidirectional_bounds(v.model, None, x, num_steps=3)),
    "quadrature": over(lambda v, x, y: pv.integrate_plane(v.model, x, points=21)),
    "exact": over(lambda v, x, y: pv.log_likelihood(v.model, pv.ExactGuide(v.model, 41), x)),
    "fit": over(lambda v, x, y: fitted(v, (x,))),
    "fit in parts": over(lambda v, x, y: fitted(v, (x, y), batch_size=3, batch_parts=2), LABELLED),
    "fit dreg": over(lambda v, x, y: fitted(v, (x,), elbo=pv.objective("dreg"))),
    "resumed": resumed,
    "files": saved_and_loaded,
    "sample": over(lambda v, x, y: v.sample(3, y, pixels=True), LABELLED),
    "reconstruct": over(lambda v, x, y: v.reconstruct(X)),
    "decode": over(lambda v, x, y: v.decode(X.flatten(1)[:, :2])),
    "interpolate": over(lambda v, x, y: v.interpolate(X, X.flip(0), Y), LABELLED),
    "simulate": over(lambda v, x, y: pv.simulate(v.model, x)[1]["z"].shape),
    "moments": over(lambda v, x, y: posterior_moments(v.guide, x), OTHERS["spline"]),
    "styles": over(lambda v, x, y: encode_style(v.model, v.guide, x, y, num_samples=3), LABELLED),
    "posterior": over(lambda v, x, y: posterior_samples(v.model, v.guide, x, num_draws=5)),
    "mean": over(lambda v, x, y: posterior_mean(v.model, v.guide, x)),
    "complete": over(lambda v, x, y: pv.complete(v.model, v.guide, x, mask=X[0] > 0.5)),
    "gaps": over(lambda v, x, y: best_log_weights(v.model, v.guide, v.guide, [x], 5, 0, None)),
    "rate": over(lambda v, x, y: guide_rate_distortion(v.model, v.guide, x)),
    "rate at 2": over(lambda v, x, y: model_rate_distortion(v.model, v.guide, x, beta=2.0)),
    "classes": over(
        lambda v, x, y: class_log_likelihoods(v.model, v.guide, x, num_classes=3), LABELLED
    ),
    "two latents": lambda device: pv.log_likelihood(
        two, pv.Refined(two, two_guide, **SMALL), ROWS.to(device)
    ),
    "two annealed": lambda device: pv.annealed_log_likelihood(
        two, two_guide, ROWS.to(device), num_steps=3
    ),
    "discrete": lambda device: pv.log_likelihood(
        clusters, pv.Refined(clusters, clusters_guide, **SMALL), ROWS.to(device)
    ),
    **{
        f"log p, {name}": over(lambda v, x, y: v.log_likelihood(x), OTHERS[name]) for name in GUIDES
    },
    # the mixture's gradients are Pyro's own, in a thread of the device, which the imitation misses
    **{
        f"fit, {name}": over(lambda v, x, y: fitted(v, (x,)), OTHERS[name])
        for name in GUIDES
        if name != "mixture"
    },
    **{
        f"annealed, {name}": over(
            lambda v, x, y: pv.annealed_log_likelihood(v.model, v.guide, x, num_steps=2),
            OTHERS[name],
        )
        for name in GUIDES
    },
}


def numbers(result: object) -> list[np.ndarray]:
    if isinstance(result, Tensor):
        return [result.detach().cpu().double().numpy()]
    if isinstance(result, np.ndarray | float | int):
        return [np.asarray(result, float)]
    if isinstance(result, dict):
        result = [*result.values()]
    return [a for part in result for a in numbers(part)] if isinstance(result, list | tuple) else []


def apart(call: Callable[[str], object]) -> float | str:
    """Return the largest difference between CPU and the imitated mps, or the error there."""
    expected = numbers(call("cpu"))
    apple.log.clear()
    try:
        with apple.apple():
            found = numbers(call("mps"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if not apple.log or len(found) != len(expected):
        return "nothing ran on the device, or results are missing"
    return max(
        float(np.nanmax(abs(a - b), initial=0)) for a, b in zip(found, expected, strict=True)
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps({name: apart(CALLS[name]) for name in sys.argv[1:] or CALLS}, indent=1))
