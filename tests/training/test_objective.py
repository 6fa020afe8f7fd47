"""What is trained: nats per image, whatever the plate, with the KL term weighted as asked."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import JitTrace_ELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.training.fit import fit
from tests.programs import PROBLEM, LinearGuide, z_of

X, model = PROBLEM.data(24), PROBLEM.model

QUICK = {"batch_size": 8, "progress": False}


def trained(program=model, guide=None, **options):
    guide = guide or LinearGuide()
    torch.manual_seed(0)
    nn.init.normal_(guide.a.weight, std=0.1)
    history = fit(program, guide, (X,), **{"epochs": 2} | QUICK | options)
    return [w.clone() for w in guide.state_dict().values()], history


def subsampled(x):
    with pyro.plate("data", 24, subsample=x):
        z = pyro.sample("z", z_of(torch.zeros(2).double(), 1.0))
        pyro.sample("x", z_of(z @ PROBLEM.w.T, PROBLEM.noise), obs=x)


@pytest.mark.parametrize("bound", [Trace_ELBO, TraceMeanField_ELBO])
def test_a_subsampled_plate_gives_nats_per_image(bound):
    """The same losses and weights as in the plain plate; `poutine.scale` by 3 stays."""
    plain, history = trained(elbo=bound())
    weights, again = trained(subsampled, LinearGuide(sub=24), elbo=bound())
    torch.testing.assert_close(weights, plain, atol=1e-12, rtol=1e-9)
    for record, other in zip(history, again, strict=True):
        assert record["train_elbo"] == pytest.approx(other["train_elbo"], rel=1e-9)
    rate = {"epochs": 1, "batch_size": 24, "learning_rate": 1e-12, "elbo": bound()}
    _, (one,) = trained(**rate)
    _, (three,) = trained(poutine.scale(subsampled, 3.0), ScaledLinear(sub=24), **rate)
    assert three["train_elbo"] == pytest.approx(3 * one["train_elbo"], rel=1e-6)


class ScaledLinear(LinearGuide):
    def forward(self, x):
        with poutine.scale(scale=3.0):
            super().forward(x)


def optimum(beta):
    """The maximum of E_q log p(x | z) - beta KL over guides N(A x, diag(scale^2)): A and log scale.

    The gradients vanish where q is the mean-field optimum of p(z) p(x | z)^(1 / beta):
    A = P^-1 W' / (beta s^2), scale_i^2 = 1 / P_ii, with P = I + W' W / (beta s^2).
    """
    precision = torch.eye(2).double() + PROBLEM.w.T @ PROBLEM.w / (beta * PROBLEM.noise**2)
    a = torch.linalg.solve(precision, PROBLEM.w.T) / (beta * PROBLEM.noise**2)
    return a, -0.5 * precision.diagonal().log()


@pytest.mark.parametrize(("beta", "bound"), [(4.0, Trace_ELBO), (0.3, TraceMeanField_ELBO)])
def test_a_weighted_kl_term_leads_to_the_optimum_known_in_closed_form(beta, bound):
    """Within 0.05; the optimum of weight 1 is 0.3 away or more. Seeded, it passes each time."""
    options = {"epochs": 600, "batch_size": 24, "learning_rate": 0.05, "schedule": "cosine"}
    particles = bound(num_particles=5, vectorize_particles=True)
    (scales, a), history = trained(kl_weight=beta, elbo=particles, **options)
    exact_a, exact_scales = optimum(beta)
    assert (X @ a.T - X @ exact_a.T).abs().max() < 0.05
    assert (scales - exact_scales).abs().max() < 0.05
    assert (exact_scales - optimum(1.0)[1]).abs().min() > 0.3
    loc, scale = X @ exact_a.T, exact_scales.exp().expand(len(X), 2)
    kl = (0.5 * (loc**2 + scale**2 - 1).sum(1) - scale.log().sum(1)).mean()
    best = float(PROBLEM.elbo(X, loc, scale).mean() - (beta - 1) * kl)
    last = np.mean([record["train_elbo"] for record in history[-100:]])
    assert last == pytest.approx(best, abs=0.1)


def warm_up(step):
    return min(1.0, step / 4)


def test_weight_one_is_no_weight(tmp_path):
    plain, history = trained(nn_model(), state_path=tmp_path / "state.pt")
    weights, again = trained(kl_weight=1)
    assert history == again
    assert all(torch.equal(a, b) for a, b in zip(plain, weights, strict=True))
    assert trained(kl_weight=2.0)[1] != history
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert "kl_weight" not in state["settings"]


def test_the_held_out_elbo_has_no_weight_and_the_weight_is_that_of_each_step():
    seen = []

    def weight(step):
        seen.append(step)
        return 100.0 * step

    guide = LinearGuide()
    history = fit(model, guide, (X,), (X,), epochs=2, kl_weight=weight, **QUICK)
    assert seen == [0, 1, 2, 3, 4, 5]
    plain = log_likelihood(model, guide, X, num_samples=1).elbo.mean()
    assert history[-1]["test_elbo"] == pytest.approx(plain, abs=1e-9)
    # the objective at weights 300, 400 and 500 is far below any ELBO of these programs
    assert history[-1]["train_elbo"] < history[-1]["test_elbo"] - 50


def test_resumed_in_the_warm_up_is_exact(tmp_path):
    """The steps of the weight are counted on."""
    path = tmp_path / "state.pt"
    plain = {"program": nn_model(), "kl_weight": warm_up}
    whole, history = trained(epochs=3, **plain)
    trained(epochs=1, state_path=path, **plain)
    with pytest.raises(InputError, match="kl_weight="):
        trained(epochs=3, state_path=path, resume=True, program=nn_model())
    with pytest.raises(InputError, match="kl_weight="):
        trained(epochs=3, state_path=path, resume=True, program=nn_model(), kl_weight=abs)
    weights, again = trained(epochs=3, state_path=path, resume=True, **plain)
    assert history == again
    assert all(torch.equal(a, b) for a, b in zip(whole, weights, strict=True))


def nn_model():
    class Module(nn.Module):
        def forward(self, x):
            model(x)

    return Module()


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (-1.0, "kl_weight must be a number >= 0, not -1"),
        (math.inf, "kl_weight must be a number >= 0"),
        (math.nan, "kl_weight must be a number >= 0"),
        ("half", "kl_weight must be a number or a function"),
        (lambda step: 1.0 - step, "kl_weight, at step 2, must be a number >= 0, not -1"),
        (lambda step: None, "kl_weight, at step 0, must be a number >= 0, not None"),
    ],
)
def test_a_wrong_weight_is_named_with_its_step(weight, said):
    with pytest.raises(InputError, match=said):
        trained(kl_weight=weight)


def test_a_compiled_bound_takes_a_number_only():
    with pytest.raises(InputError, match="kl_weight must be a number with JitTrace_ELBO"):
        trained(kl_weight=warm_up, elbo=JitTrace_ELBO())


class AuxiliaryGuide(nn.Module):
    """z = u with q(u) as a site of its own: log q counts at u, and is weighted there."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 2, bias=False).double()
        self.log_scale = nn.Parameter(torch.zeros(2).double())

    def forward(self, x):
        with pyro.plate("data", len(x)):
            q = z_of(self.a(x), self.log_scale.exp())
            u = pyro.sample("u", q, infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(u, event_dim=1))


def test_an_auxiliary_site_is_weighted_with_the_latents():
    """The same guide with and without one: the same training to rounding."""
    plain, history = trained(kl_weight=3.0)
    weights, again = trained(kl_weight=3.0, guide=AuxiliaryGuide())
    torch.testing.assert_close(weights[::-1], plain[::-1], atol=1e-12, rtol=1e-9)
    assert again[-1]["train_elbo"] == pytest.approx(history[-1]["train_elbo"], rel=1e-9)


class Warm(nn.Module):
    """A model that scales its own prior term."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(PROBLEM.w.clone())

    def forward(self, x):
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=0.1):
                z = pyro.sample("z", z_of(torch.zeros(2).double(), 1.0))
            pyro.sample("x", z_of(z @ self.w.T, PROBLEM.noise), obs=x)


def test_a_program_that_scales_its_latents_is_trained_as_it_is_and_scored_without():
    """Needs `log_likelihood` to score scaled programs unscaled."""
    warm, guide = Warm(), LinearGuide()
    history = fit(warm, guide, (X,), (X,), epochs=2, **QUICK)

    def unscaled(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", z_of(torch.zeros(2).double(), 1.0))
            pyro.sample("x", z_of(z @ warm.w.T, PROBLEM.noise), obs=x)

    expected = log_likelihood(unscaled, guide, X, num_samples=1).elbo.mean()
    assert history[-1]["test_elbo"] == pytest.approx(expected, abs=1e-9)
