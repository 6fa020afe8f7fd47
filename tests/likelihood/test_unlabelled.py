"""log p(x) of images without labels: a mixture of Gaussians whose p(x) is known."""

import math
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_vae.errors import InputError
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.unlabelled import unlabelled_log_likelihood
from tests.shared import off_by

MEANS = torch.tensor([[-3.0, 0.0], [3.0, 1.0], [0.0, 4.0]]).double()
SHARES = torch.tensor([0.2, 0.5, 0.3]).double()


def conditional(x, y):
    """z ~ N(mean_y, I), x ~ N(z, 1/4), with the label y given."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(MEANS[y], 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)


def guide(x, y):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.7 * x + 0.3 * MEANS[y], 0.7).to_event(1))


def half_labelled(x, y=None):
    """The same, with y ~ SHARES, one-hot, observed or latent."""
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.OneHotCategorical(SHARES.expand(len(x), 3)), obs=y)
        z = pyro.sample("z", dist.Normal(y @ MEANS, 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)


def half_labelled_guide(x, y=None):
    with pyro.plate("data", len(x)):
        if y is None:
            y = pyro.sample("y", dist.OneHotCategorical(torch.ones(len(x), 3).double() / 3))
        pyro.sample("z", dist.Normal(0.7 * x + 0.3 * (y @ MEANS), 0.7).to_event(1))


def exact(x, shares=SHARES):
    of_label = dist.Normal(MEANS[:, None], math.sqrt(1.25)).log_prob(x).sum(-1)  # (3, B)
    return (of_label + shares.log()[:, None]).logsumexp(0)


X = 3 * torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
ONE_HOT = torch.eye(3).double()


@pytest.mark.parametrize(
    ("model", "proposal", "options"),
    [
        (conditional, guide, {"labels": torch.arange(3), "prior": SHARES}),
        (conditional, guide, {"labels": torch.arange(3), "prior": 7 * SHARES}),  # shares, scaled
        (half_labelled, half_labelled_guide, {"labels": ONE_HOT}),
    ],
)
def test_the_weights_are_unbiased(model, proposal, options):
    """Over 2,000 copies of an image, each a run of two samples: within 5 standard errors."""
    copies = X[:1].expand(2000, -1)
    result = unlabelled_log_likelihood(model, proposal, copies, num_samples=2, **options)
    assert abs(off_by(np.exp(result.value - exact(copies).numpy()), 1)) < 5


def test_the_prior_is_uniform_unless_it_is_given():
    result = unlabelled_log_likelihood(
        conditional, guide, X, labels=torch.arange(3), num_samples=4000
    )
    uniform = exact(X, torch.full((3,), 1 / 3).double()).numpy()
    assert (np.abs(result.value - uniform) < 5 * result.se).all()
    assert (np.abs(result.value - exact(X).numpy()) > 5 * result.se).any()


def test_the_sum_and_sampling_the_label_agree():
    """Each within 5 standard errors of the exact value: one seed in 60,000 fails."""
    refined = Refined(
        half_labelled, half_labelled_guide, num_starts=2, samples_per_round=(100, 200)
    )
    summed = partial(unlabelled_log_likelihood, labels=ONE_HOT)
    for estimator in (summed, log_likelihood):
        for proposal, num_samples in ((half_labelled_guide, 5000), (refined, 1000)):
            result = estimator(half_labelled, proposal, X, num_samples=num_samples)
            assert (np.abs(result.value - exact(X).numpy()) < 5 * result.se).all()


def test_a_label_that_the_model_observes_in_another_form_has_its_own_prior():
    """The user gives whole numbers, and the model observes them one-hot. Tolerance as above."""

    def by_number(program):
        def run(x, y=None):
            program(x, None if y is None else ONE_HOT[y])

        return run

    model, proposal = by_number(half_labelled), by_number(half_labelled_guide)
    result = unlabelled_log_likelihood(
        model, proposal, X, labels=torch.arange(3), num_samples=20_000
    )
    assert (np.abs(result.value - exact(X).numpy()) < 5 * result.se).all()


def test_pixels_that_are_not_seen_may_be_nan():
    mask, options = torch.tensor([True, False]), {"labels": torch.arange(3), "num_samples": 50}
    holes = X.masked_fill(~mask, torch.nan)
    results = [
        unlabelled_log_likelihood(conditional, guide, x, mask=mask, **options) for x in (X, holes)
    ]
    assert (results[0].value == results[1].value).all()


def test_images_that_look_like_labels_are_no_labels():
    """The first image is the first label, (1, 0): p(y) is uniform all the same, to rounding."""
    pixels = torch.tensor([[0.2, 0.7], [0.6, 0.1]])

    def model(x, y):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Bernoulli(y @ pixels).to_event(1), obs=x)

    def prior(x, y):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    result = unlabelled_log_likelihood(model, prior, x, labels=torch.eye(2), num_samples=2)
    of_label = dist.Bernoulli(pixels[:, None]).log_prob(x).sum(-1)
    assert np.allclose(result.value, of_label.exp().mean(0).log(), atol=1e-5)


def test_wrong_arguments_are_named():
    for options, message in [
        ({"labels": ONE_HOT, "prior": SHARES}, "prior must be None: the model observes y"),
        ({"labels": torch.zeros(0)}, "labels must hold at least one"),
    ]:
        with pytest.raises(InputError, match=message):
            unlabelled_log_likelihood(half_labelled, half_labelled_guide, X, **options)
    for prior in (SHARES[:2], -SHARES, 0 * SHARES):
        with pytest.raises(InputError, match="prior must be 3 shares"):
            unlabelled_log_likelihood(conditional, guide, X, labels=torch.arange(3), prior=prior)
