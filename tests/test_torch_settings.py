"""Torch's global settings around our calls: the results are those without them, to the bit.

As a default device "meta" stands for a GPU: a tensor made there by mistake has no numbers, and
stops the call. A program of the user's own still makes its tensors by these defaults.
"""

import copy
import sys
from contextlib import contextmanager

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.utils._device import DeviceContext
from torch.utils.data import Dataset

import pyro_vae as pv
from pyro_vae.analysis.gaps import best_log_weights
from pyro_vae.analysis.interventions import gaussian_noise, salt_and_pepper, shuffle_pixels
from pyro_vae.analysis.sampling import posterior_moments, posterior_samples
from pyro_vae.likelihood.annealing import bidirectional_bounds

DEVICE, DTYPE, AUTOCAST = "default device", "default dtype", "autocast"


class _Elsewhere(DeviceContext):
    """A default device, for all but the number 0.0 that Pyro keeps with each plate.

    Pyro reads its value, which a GPU would tell and "meta" does not.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if sys._getframe(1).f_code.co_filename.endswith("subsample_messenger.py"):
            return function(*args, **(kwargs or {}))
        return super().__torch_function__(function, types, args, kwargs)


@contextmanager
def setting(name):
    """Torch with one of its global settings changed."""
    if name == DTYPE:
        torch.set_default_dtype(torch.float64)
    try:
        if name == DEVICE:
            with _Elsewhere("meta"):
                yield
        elif name == AUTOCAST:
            with torch.autocast("cpu", torch.bfloat16):
                yield
        else:
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def numbers(result):
    """Return the arrays in a result, in order."""
    if isinstance(result, Tensor):
        return [result.detach().numpy()]
    if isinstance(result, np.ndarray | float | int):
        return [np.asarray(result)]
    if isinstance(result, dict):
        result = result.values()
    if isinstance(result, list | tuple | type({}.values())):
        return [array for part in result for array in numbers(part)]
    return []


torch.manual_seed(0)
X, Y = torch.rand(3, 1, 28, 28), torch.tensor([2, 0, 1])
VAE = pv.Vae.build(2, precision="float32")
LABELLED = pv.Vae.build(
    3, architecture="per_label", num_classes=3, prior="learned", guide="full_rank",
    precision="float32",
)  # fmt: skip
ROWS = torch.tensor([[0.5, -1.0], [0.1, 0.3], [2.0, 1.0], [-2.5, 0.0]])
SMALL = {"num_starts": 2, "newton_steps": 1, "samples_per_round": (20, 20), "precision": "float32"}


class Digits(Dataset):
    """Images and labels as torchvision gives them: the label is a number."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i], Y.tolist()[i]


def two(x):
    """Two latents, a positive scale and two locations; x ~ N(locations, scale^2)."""
    one = x.new_ones(len(x))
    with pyro.plate("data", len(x)):
        scale = pyro.sample("scale", dist.Gamma(2 * one, one))
        loc = pyro.sample("loc", dist.Normal(0 * x, 1).to_event(1))
        pyro.sample("seen", dist.Normal(loc, scale[..., None]).to_event(1), obs=x)


def two_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("scale", dist.Gamma(2 + x[:, 0].abs(), 2 + 0 * x[:, 0]))
        pyro.sample("loc", dist.Normal(x / 2, 1).to_event(1))


def clusters(x):
    """One of two clusters, at -1 and 1, and a scale."""
    ones = x.new_ones(len(x), 2)
    with pyro.plate("data", len(x)):
        cluster = pyro.sample("cluster", dist.Categorical(ones / 2))
        loc = pyro.sample("loc", dist.Normal(0 * ones, 1).to_event(1))
        at = 2.0 * cluster[..., None] - 1 + loc
        pyro.sample("seen", dist.Normal(at.to(x), 0.5).to_event(1), obs=x)


def clusters_guide(x):
    ones = x.new_ones(len(x), 2)
    with pyro.plate("data", len(x)):
        pyro.sample("cluster", dist.Categorical(ones / 2))
        pyro.sample("loc", dist.Normal(x / 2, 1).to_event(1))


def fitted(vae, batch, **options):
    """Train a copy; return the history and the weights."""
    vae = copy.deepcopy(vae)
    options = {"epochs": 1, "batch_size": 2, "progress": False} | options
    history = pv.fit(vae.model, vae.guide, batch, batch, **options)
    return [record["test_elbo"] for record in history], vae.model.state_dict()


def guide_of(name):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return pv.Vae.build(2, architecture="dense", guide=name, precision="float32")


GUIDES = ("full_rank", "mixture", "inverse_autoregressive", "spline", "semi_amortised")
OTHERS = {name: guide_of(name) for name in GUIDES}


def saved_and_loaded(folder):
    LABELLED.save(folder / "vae.pt")
    return pv.Vae.load(folder / "vae.pt").log_likelihood(X, Y).value


def binarised(folder):
    return fitted(VAE, (X,), transform=torch.bernoulli, state_path=folder / "state.pt")


CALLS = {
    "log_likelihood": lambda _: VAE.log_likelihood(X),
    "with labels": lambda _: LABELLED.log_likelihood(X, Y),
    "a set with labels": lambda _: LABELLED.log_likelihood(Digits()),
    "without their labels": lambda _: LABELLED.log_likelihood(X),
    "mask": lambda _: VAE.log_likelihood(X, mask=X[0] > 0.5),
    "refined": lambda _: VAE.refined(**SMALL).log_likelihood(X),
    "refined of two": lambda _: pv.log_likelihood(two, pv.Refined(two, two_guide, **SMALL), ROWS),
    "annealed of two": lambda _: pv.annealed_log_likelihood(two, two_guide, ROWS, num_steps=3),
    "refined of a discrete one": lambda _: pv.log_likelihood(
        clusters, pv.Refined(clusters, clusters_guide, **SMALL), ROWS
    ),
    "annealed": lambda _: pv.annealed_log_likelihood(VAE.model, VAE.guide, X, num_steps=3),
    "bidirectional": lambda _: bidirectional_bounds(VAE.model, None, X, num_steps=3),
    "quadrature": lambda _: pv.integrate_plane(VAE.model, X, points=21),
    "exact guide": lambda _: pv.log_likelihood(VAE.model, pv.ExactGuide(VAE.model, 41), X),
    "fit": lambda _: fitted(VAE, (X,)),
    "fit in parts": lambda _: fitted(LABELLED, (X, Y), batch_size=3, batch_parts=2),
    "fit dreg": lambda _: fitted(VAE, (X,), elbo=pv.objective("dreg")),
    "fit of two groups": lambda _: fitted(LABELLED, [(X, Y), (X[:2], Y[:2])]),
    "fit with a transform": binarised,
    "sample": lambda _: LABELLED.sample(3, Y, pixels=True),
    "reconstruct": lambda _: VAE.reconstruct(X),
    "decode": lambda _: VAE.decode(X.flatten(1)[:, :2]),
    "interpolate": lambda _: LABELLED.interpolate(X, X.flip(0), Y),
    "simulate": lambda _: pv.simulate(VAE.model, X)[1]["z"].shape,
    "moments": lambda _: posterior_moments(OTHERS["spline"].guide, X),
    "posterior": lambda _: posterior_samples(VAE.model, VAE.guide, X, num_draws=5),
    "complete": lambda _: pv.complete(VAE.model, VAE.refined(**SMALL).guide, X, mask=X[0] > 0.5),
    "gaps": lambda _: best_log_weights(VAE.model, VAE.guide, VAE.guide, [X[:1]], 5, 0, None),
    "linear Gaussian": lambda _: pv.LinearGaussian().log_likelihood(pv.LinearGaussian().data(2)),
    "files": saved_and_loaded,
    "noise": lambda _: (
        shuffle_pixels(X, 0),
        gaussian_noise(X, 0.1, torch.Generator("cpu")),
        salt_and_pepper(X, 0.1, torch.Generator("cpu")),
    ),
    "digits": lambda _: pv.load_dataset("digits").test_images[:3],
    **{f"log p by {name}": lambda _, name=name: OTHERS[name].log_likelihood(X) for name in GUIDES},
    **{f"fit of {name}": lambda _, name=name: fitted(OTHERS[name], (X,)) for name in GUIDES},
}


# the gaps take eight seconds each time
TRIED = [pytest.param(c, marks=pytest.mark.slow) if c == "gaps" else c for c in CALLS]


@pytest.mark.parametrize("call", TRIED)
def test_results_are_those_without_the_setting(call, tmp_path):
    without = numbers_of(call, tmp_path / "without")
    assert without
    for name in (DEVICE, DTYPE, AUTOCAST):
        with setting(name):
            found = numbers_of(call, tmp_path / name)
        assert len(found) == len(without)
        for here, there in zip(found, without, strict=True):
            np.testing.assert_array_equal(here, there, err_msg=name)


def numbers_of(call, folder):
    folder.mkdir()
    return numbers(CALLS[call](folder))


class Halved(nn.Module):
    """A model with an autocast of its own around its decoder."""

    def __init__(self):
        super().__init__()
        self.decoder = VAE.model.decoder

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1).to_event(1))
            with torch.autocast("cpu", torch.bfloat16):
                logits = self.decoder(z)
            pyro.sample("x", pv.GreyBernoulli(logits=logits.float()).to_event(3), obs=x)


def test_an_autocast_within_a_program_stays():
    """It is part of the model: what it rounds shows, inside another autocast or not."""
    whole = VAE.log_likelihood(X).value
    rounded = pv.log_likelihood(Halved(), VAE.guide, X).value
    with torch.autocast("cpu", torch.bfloat16):
        again = pv.log_likelihood(Halved(), VAE.guide, X).value
    np.testing.assert_array_equal(again, rounded)
    assert (rounded != whole).all()


class Watched(nn.Module):
    """A model that notes how far matrix products are rounded where it runs."""

    def __init__(self):
        super().__init__()
        self.model, self.seen = VAE.model, set()

    def forward(self, x):
        self.seen.add(torch.get_float32_matmul_precision())
        self.model(x)


def test_products_are_not_rounded_to_tf32():
    """Nor is the setting lost. No processor here rounds: what is set inside tells."""
    model = Watched()
    torch.set_float32_matmul_precision("high")
    try:
        pv.log_likelihood(model, VAE.guide, X, num_samples=2)
        pv.fit(*copy.deepcopy((model, VAE.guide)), (X,), epochs=1, progress=False)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert model.seen == {"highest"}


@pytest.mark.parametrize("architecture", ["appendix", "per_label", "dense"])
@pytest.mark.parametrize("guide", ["mean_field", *GUIDES])
def test_weights_are_made_in_torchs_default_dtype(architecture, guide, tmp_path):
    """As any module's are. The file is then read as such, whatever the default is by then."""
    options = {"architecture": architecture, "guide": guide, "prior": "learned", "num_classes": 3}
    with setting(DTYPE):
        vae = pv.Vae.build(3, **options)
    assert {w.dtype for w in vae.model.parameters()} == {torch.float64}
    vae.save(tmp_path / "vae.pt")
    again = pv.Vae.load(tmp_path / "vae.pt")
    x, z = X.double(), torch.zeros(3, 3, dtype=torch.float64)
    torch.testing.assert_close(again.decode(z, Y), vae.decode(z, Y), rtol=0, atol=0)
    assert np.isfinite(again.log_likelihood(x, Y, num_samples=3).value).all()


@contextmanager
def strict_torch():
    """Deterministic algorithms and anomaly detection."""
    torch.use_deterministic_algorithms(True)
    try:
        with torch.autograd.detect_anomaly(check_nan=True):
            yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize(
    "call", ["refined", "annealed", "fit in parts", "fit dreg", "fit of spline"]
)
def test_deterministic_algorithms_and_anomaly_detection_change_nothing(call, tmp_path):
    without = numbers(CALLS[call](tmp_path))
    with strict_torch():
        found = numbers(CALLS[call](tmp_path))
    for here, there in zip(found, without, strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.slow
@pytest.mark.parametrize("call", [call for call in CALLS if "fit" not in call and call != "gaps"])
def test_results_are_those_where_gradients_are_off(call, tmp_path):
    without = numbers_of(call, tmp_path / "without")
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = numbers_of(call, tmp_path / mode.__name__)
        for here, there in zip(found, without, strict=True):
            np.testing.assert_array_equal(here, there, err_msg=mode.__name__)
