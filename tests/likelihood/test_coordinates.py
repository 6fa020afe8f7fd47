"""Unconstrained coordinates of latents: round trips, and Jacobians against autograd's."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_vae.errors import InputError
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.coordinates import coordinates_of, from_latents, to_latents
from pyro_vae.likelihood.importance import log_likelihood

IMAGES = 3
DOUBLE = {"dtype": torch.float64}
PRIORS = {
    "scalar": dist.Normal(torch.zeros((), **DOUBLE), 1.0),
    "vector": dist.Normal(torch.zeros(4, **DOUBLE), 1.0).to_event(1),
    "matrix": dist.Normal(torch.zeros(2, 3, **DOUBLE), 1.0).to_event(2),
    "positive": dist.Gamma(torch.tensor(3.0, **DOUBLE), 2.0),
    "positive vector": dist.Gamma(torch.full((2,), 3.0, **DOUBLE), 2.0).to_event(1),
    "interval": dist.Uniform(torch.tensor(-2.0, **DOUBLE), torch.tensor(5.0, **DOUBLE)),
    "of each image": dist.Uniform(-torch.arange(1.0, 4.0, **DOUBLE), torch.arange(1.0, 4.0)),
    "simplex": dist.Dirichlet(torch.ones(4, **DOUBLE)),
    "angles": dist.VonMises(torch.zeros(2, 3, **DOUBLE), 1.0).to_event(2),
    "correlations": dist.LKJCholesky(3, torch.tensor(1.0, **DOUBLE)),
}


def prior(**latents):
    def program(x):
        with pyro.plate("data", x.shape[0]):
            for name, fn in latents.items():
                pyro.sample(name, fn)

    return program


def coordinates(**latents):
    x = torch.zeros(IMAGES)
    return coordinates_of(prior(**latents), [x], list(latents))


def numbers(parts):
    return sum(c.shape.numel() for c in parts)


def free(name, value):
    """The numbers by whose volume Pyro measures densities: of n on a simplex n - 1, and so on."""
    if name == "simplex":
        return value[..., :-1]
    if name == "correlations":
        return value[..., *torch.tril_indices(3, 3, -1)]
    return value.reshape(len(value), -1)


@pytest.mark.parametrize("name", PRIORS)
def test_round_trip_and_jacobian(name):
    fn = PRIORS[name]
    parts = coordinates(z=fn)
    u = torch.randn(5, IMAGES, numbers(parts), **DOUBLE)
    latents, log_det = to_latents(parts, u)
    value = latents["z"]
    assert value.shape == (5, IMAGES, *fn.event_shape)
    assert log_det.shape == (5, IMAGES)
    assert fn.support.check(value).all()
    torch.testing.assert_close(from_latents(parts, latents), u)

    # each image by autograd, its coordinates against the numbers that are free
    def image(b):
        def one(row):
            whole = u[0].clone().index_put((torch.tensor(b),), row)
            return free(name, to_latents(parts, whole)[0]["z"][b : b + 1])[0]

        return one

    for b in range(IMAGES):
        jacobian = torch.autograd.functional.jacobian(image(b), u[0, b])
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_det[0, b])


def test_several_latents_are_joined_in_their_order():
    names = ("positive vector", "scalar", "matrix", "simplex")
    latents = {name.replace(" ", "_"): PRIORS[name] for name in names}
    parts = coordinates(**latents)
    assert [c.name for c in parts] == [*latents]
    u = torch.randn(2, IMAGES, 2 + 1 + 6 + 3, **DOUBLE)
    values, log_det = to_latents(parts, u)
    torch.testing.assert_close(from_latents(parts, values), u)
    torch.testing.assert_close(values["positive_vector"].log(), u[..., :2])
    torch.testing.assert_close(values["scalar"], u[..., 2])
    torch.testing.assert_close(values["matrix"].flatten(2), u[..., 3:9])
    alone = to_latents(parts[-1:], u[..., 9:])[1]
    torch.testing.assert_close(log_det, u[..., :2].sum(-1) + alone)


def test_only_a_plain_vector_is_its_own_coordinate():
    assert coordinates(z=PRIORS["vector"])[0].is_vector
    for name in set(PRIORS) - {"vector"}:
        assert not coordinates(z=PRIORS[name])[0].is_vector, name


def test_an_angle_does_not_wind():
    """Its density repeats itself, so that over all real numbers it has no integral.

    y ~ N(cos a, 0.5^2), with a uniform on the circle: by quadrature.
    """
    uniform = dist.VonMises(torch.tensor(0.0), torch.tensor(1e-6))
    value, _ = to_latents(coordinates(a=uniform), torch.tensor([[-50.0], [0.0], [50.0]]))
    assert (value["a"].abs() <= math.pi + 1e-5).all()

    def model(x):
        with pyro.plate("data", x.shape[0]):
            a = pyro.sample("a", uniform)
            pyro.sample("x", dist.Normal(a.cos(), 0.5), obs=x)

    x = torch.tensor([0.9, 0.0, -1.2])
    angles = torch.linspace(-math.pi, math.pi, 2001)[:-1, None]
    exact = dist.Normal(angles.cos(), 0.5).log_prob(x).logsumexp(0) - math.log(2000)
    guide = Refined(model, prior(a=uniform), num_starts=4)
    result = log_likelihood(model, guide, x, num_samples=2000)
    assert (abs(result.value - exact.numpy()) < 5 * result.se + 1e-4).all()
    assert (result.se < 0.05).all()


def test_a_support_that_depends_on_another_latent_is_refused():
    def stick(x):
        with pyro.plate("data", x.shape[0]):
            a = pyro.sample("a", dist.Uniform(0.0, 1.0))
            pyro.sample("b", dist.Uniform(torch.zeros(()), a))

    with pytest.raises(InputError, match="the support of latent 'b' depends on other latents"):
        coordinates_of(stick, [torch.zeros(IMAGES)], ["a", "b"])


@pytest.mark.filterwarnings("ignore:Singular sample")  # torch says so of good ones
def test_a_support_without_a_map_is_refused():
    """PyTorch maps correlations to real numbers, and no positive definite matrices."""
    with pytest.raises(InputError, match="'z' has a support that Pyro cannot map to real numbers"):
        coordinates(z=dist.Wishart(torch.tensor(9.0), torch.eye(3)))
