"""The table of docs/guests.md, row by row: what is taken runs, what is refused says that line."""

import re
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import JitTrace_ELBO
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoLaplaceApproximation,
    AutoMultivariateNormal,
    AutoNormal,
)
from torch import nn

from pyro_vae import (
    InputError,
    Model,
    Refined,
    annealed_log_likelihood,
    complete,
    fit,
    log_likelihood,
    unlabelled_log_likelihood,
)
from tests import programs
from tests.commands import ROOT
from tests.guests import HalfLabelled, PyroStyle, clusters
from tests.programs import W, linear_data, linear_exact, linear_posterior, within

X = linear_data(6)
NORMAL = dist.Normal(torch.zeros(2), 1.0).to_event(1)


def exact(model, guide):
    """Score the linear-Gaussian images: within 5 standard errors, one seed in 300,000 here."""
    within(log_likelihood(model, guide, X, num_samples=4000), linear_exact(X))


def linear(x, name="z", scale=1.0, decoder=None, **plate):
    with pyro.plate("data", plate.get("size") or len(x), subsample=plate.get("subsample")):
        with poutine.scale(scale=scale):
            z = pyro.sample(name, NORMAL)
        loc = z @ W if decoder is None else decoder(z)
        pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=x)


def guide(x, name="z", others=None):
    """Sample a wide Gaussian around the posterior's mean, and other latents beside it."""
    mean, covariance = linear_posterior(x)
    with pyro.plate("data", len(x)):
        pyro.sample(name, dist.MultivariateNormal(mean, 1.3 * covariance))
        for other, q in (others or {}).items():
            pyro.sample(other, q)


def trains(model, guide_, *data, **options):
    fit(model, guide_, *(data or [(X,)]), **{"epochs": 1, "progress": False} | options)


class Encoder(nn.Module):
    def __init__(self, *more):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 4), *more)

    def forward(self, x):
        loc, tau = self.net(x).chunk(2, -1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(loc, (tau / 2).exp()).to_event(1))


# --- what is taken ---------------------------------------------------------------------------


def functions_and_modules():
    x = torch.rand(4, 1, 28, 28).round()
    vae = PyroStyle()
    trains(vae.model, vae.guide, (x,))
    log_likelihood(vae.model, Refined(vae.model, vae.guide), x, num_samples=50)
    exact(linear, guide)


def site_names():
    exact(partial(linear, name="a site"), partial(guide, name="a site"))


def auxiliary():
    exact(programs.linear, programs.auxiliary_guide)


def autonormal():
    auto = AutoNormal(linear)
    trains(linear, auto, epochs=300, batch_size=6, learning_rate=0.03)
    exact(linear, Refined(linear, auto))
    elbo = log_likelihood(linear, auto, X, num_samples=1000).elbo
    assert (elbo < linear_exact(X).numpy()).all()


def several_latents():
    model, guide_, x = programs.hierarchy, programs.hierarchy_guide, programs.HIERARCHY_DATA
    wanted = programs.hierarchy_exact(x)
    within(log_likelihood(model, Refined(model, guide_), x, num_samples=1000), wanted)
    within(annealed_log_likelihood(model, guide_, x, num_steps=20), wanted)


def constrained():
    model, guide_, x = programs.lomax, programs.lomax_guide, programs.LOMAX_DATA
    wanted = programs.lomax_exact(x)
    within(log_likelihood(model, Refined(model, guide_), x, num_samples=1000), wanted)
    within(annealed_log_likelihood(model, guide_, x, num_steps=20), wanted)


def mixture(x, sites=("y",), prior=None):
    with pyro.plate("data", len(x)):
        shift = sum(
            pyro.sample(name, prior or dist.Bernoulli(0.3 * torch.ones(len(x)))) for name in sites
        )
        z = pyro.sample("z", NORMAL)
        pyro.sample("x", dist.Normal(z @ W + shift[..., None], 0.5).to_event(1), obs=x)


def mixture_guide(x, sites=("y",), prior=None):
    q = prior or dist.Bernoulli(0.5 * torch.ones(len(x)))
    guide(x, others=dict.fromkeys(sites, q))


def discrete():
    wanted = torch.logaddexp(linear_exact(X) + np.log(0.7), linear_exact(X - 1) + np.log(0.3))
    within(log_likelihood(mixture, Refined(mixture, mixture_guide), X, num_samples=4000), wanted)


def half_labelled():
    vae, (x, y) = HalfLabelled(), clusters(20)
    trains(vae.model, vae.guide, [(x[:5], y[:5]), (x[5:],)])
    unlabelled_log_likelihood(vae.model, vae.guide, x, labels=torch.eye(3), num_samples=50)


def one_leading_dimension():
    class Decoder(nn.Module):
        def forward(self, z):
            assert z.dim() == 2
            return z @ W

    exact(partial(linear, decoder=Decoder()), guide)
    exact(partial(linear, decoder=Decoder()), Refined(partial(linear, decoder=Decoder()), guide))


def dropout():
    encoder = Encoder(nn.Dropout(0.5), nn.BatchNorm1d(4))
    first, again = (log_likelihood(linear, encoder, X, seed=1).value for _ in range(2))
    assert (first == again).all()
    assert encoder.training


def subsampled():
    history = fit(partial(linear, size=60, subsample=X), Encoder(), (X,), epochs=1, progress=False)
    assert -2000 < history[0]["train_elbo"] < 0


def warm_up():
    trains(partial(linear, scale=0.1), Encoder(), (X,), (X,))
    trains(linear, Encoder(), (X,), (X,), kl_weight=lambda step: min(1.0, 0.1 * step))
    exact(partial(linear, scale=0.1), guide)


def unseen_pixels():
    seen = torch.tensor([True, True, False, True, False])
    covariance = (W.T @ W + 0.25 * torch.eye(5))[seen][:, seen]
    known = dist.MultivariateNormal(torch.zeros(3), covariance).log_prob(X[:, seen]).numpy()
    result = log_likelihood(linear, Refined(linear, guide), X, num_samples=2000, mask=seen)
    assert (np.abs(result.value - known) < 5 * result.se).all()
    assert complete(linear, guide, X, seen).images.shape == (5, 6, 5)


def jit():
    class Sizes(nn.Module):
        def forward(self, x):
            with pyro.plate("data", x.shape[0]):
                z = pyro.sample("z", dist.Normal(x.new_zeros(x.shape[0], 2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z @ W, 0.5).to_event(1), obs=x)

    trains(Sizes(), Encoder(), batch_size=4, elbo=JitTrace_ELBO(ignore_jit_warnings=True))


def colour():
    class Decoder(nn.Module):
        latent_dim, num_classes = 8, 0

        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 3 * 32 * 32)

        def forward(self, z):
            return self.net(z).unflatten(-1, (3, 32, 32))

    Model(Decoder())(torch.rand(4, 3, 32, 32))


TAKEN = {
    "functions, modules, methods of one module (as in Pyro's tutorial)": functions_and_modules,
    "sites of any name": site_names,
    "auxiliary sites that are a change of variables": auxiliary,
    "`AutoNormal`": autonormal,
    "several latents for an image": several_latents,
    "positive and otherwise constrained latents": constrained,
    "a discrete latent with a list of values": discrete,
    "labels known for some images (Pyro's M2)": half_labelled,
    "networks that take one leading dimension (`ConvTranspose2d`)": one_leading_dimension,
    "dropout and batch norm": dropout,
    '`pyro.plate("data", N, subsample=x)`': subsampled,
    "KL warm-up and beta-VAE": warm_up,
    "pixels that are not seen": unseen_pixels,
    "`JitTrace_ELBO`": jit,
    "images `(C, H, W)` of any size": colour,
}

# --- what is refused -------------------------------------------------------------------------


def scores(model, guide_):
    log_likelihood(model, guide_, X, num_samples=10)


def autoguide(kind):
    scores(linear, kind(linear))


def other_names():
    trains(linear, partial(guide, name="latent"))


def observes_nothing():
    scores(guide, guide)


def no_event():
    def without(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0))

    scores(without, without)


def shared_by_all():
    def bayesian(x):
        w = pyro.sample("w", dist.Normal(torch.zeros(5), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(w, 1.0).to_event(1), obs=x)

    scores(bayesian, lambda x: pyro.sample("w", dist.Normal(torch.zeros(5), 1.0).to_event(1)))


def stochastic_auxiliary():
    def through_noise(x):
        with pyro.plate("data", len(x)):
            u = pyro.sample("u", NORMAL, infer={"is_auxiliary": True})
            pyro.sample("z", dist.Normal(u, 1.0).to_event(1))

    scores(linear, through_noise)


def mini_batches():
    trains(linear, AutoNormal(linear), batch_size=4)


def other_images():
    auto = AutoNormal(linear)
    trains(linear, auto, batch_size=6)
    log_likelihood(linear, auto, X[:4])


def two_discrete():
    sites = ("y", "v")
    scores(partial(mixture, sites=sites), Refined(
        partial(mixture, sites=sites), partial(mixture_guide, sites=sites)))  # fmt: skip


def no_list_of_values():
    prior = dist.Poisson(torch.ones(6))
    scores(partial(mixture, prior=prior), Refined(
        partial(mixture, prior=prior), partial(mixture_guide, prior=prior)))  # fmt: skip


def discrete_annealed():
    annealed_log_likelihood(mixture, mixture_guide, X)


def support_that_depends():
    def nested(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Uniform(torch.zeros(len(x)), 1.0))
            b = pyro.sample("b", dist.Uniform(a - 1, a))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x[..., 0])

    def nested_guide(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Uniform(torch.zeros(len(x)), 1.0))
            pyro.sample("b", dist.Uniform(a - 1, a))

    scores(nested, Refined(nested, nested_guide))


def untrained():
    network = nn.Linear(2, 5)
    trains(partial(linear, decoder=network), Encoder())


REFUSED = {
    "`AutoDelta`: trained, not scored": partial(autoguide, AutoDelta),
    "`AutoLaplaceApproximation`": partial(autoguide, AutoLaplaceApproximation),
    "`AutoMultivariateNormal`": partial(autoguide, AutoMultivariateNormal),
    "`AutoDiagonalNormal`": partial(autoguide, AutoDiagonalNormal),
    "latents named otherwise in model and guide": other_names,
    "a model that observes nothing": observes_nothing,
    "numbers of one image without `.to_event()`": no_event,
    "a latent that all images share": shared_by_all,
    "an auxiliary site that is no change of variables": stochastic_auxiliary,
    "`AutoNormal` trained in mini-batches": mini_batches,
    "`AutoNormal` on other images than its own": other_images,
    "two discrete latents, refined": two_discrete,
    "a discrete latent without a list of values, refined": no_list_of_values,
    "a discrete latent, annealed": discrete_annealed,
    "a support that depends on another latent, refined": support_that_depends,
    "a function's network without `pyro.module`, trained": untrained,
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")  # JIT's
@pytest.mark.parametrize("row", TAKEN)
def test_what_is_taken_runs(row):
    TAKEN[row]()


def line_of(row):
    with pytest.raises(InputError) as error:
        REFUSED[row]()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_refused_says_so_in_the_line_of_the_table(row):
    text = (ROOT / "docs" / "guests.md").read_text()
    line = line_of(row).replace("|", r"\|")  # in a table
    assert f"| {row} | {line} |" in text


def test_the_table_has_these_rows_and_no_other():
    text = (ROOT / "docs" / "guests.md").read_text()
    rows = re.findall(r"^\| (.*?) \| ", text, re.MULTILINE)
    assert [row for row in rows if row not in ("program", "---")] == [*TAKEN, *REFUSED]
