"""Completions held against the Gaussian p(x_missing | x_seen) of the linear-Gaussian problem.

Statistical tolerances are 5 standard errors: each comparison fails for one seed in 1.7 million.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_vae.analysis import completion
from pyro_vae.analysis.completion import complete
from pyro_vae.errors import InputError
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.problems import LinearGaussian
from tests.autoencoders import build_vae
from tests.shared import off_by

PROBLEM = LinearGaussian(latent_dim=2, data_dim=5)
SEEN = torch.tensor([True, False, True, True, False])
SMALL = {"num_starts": 2, "samples_per_round": (100, 100)}


def exact(x, noise=PROBLEM.noise):
    """Mean and covariance of the missing pixels given the seen ones, and of their means W z."""
    of_all = PROBLEM.w @ PROBLEM.w.T + noise**2 * torch.eye(5).double()
    part = of_all[~SEEN][:, SEEN] @ torch.linalg.inv(of_all[SEEN][:, SEEN])
    covariance = of_all[~SEEN][:, ~SEEN] - part @ of_all[SEEN][:, ~SEEN]
    of_means = covariance - noise**2 * torch.eye(2).double()
    return x[:, SEEN] @ part.T, covariance, of_means


def exact_missing(x):
    mean, covariance, _ = exact(x)
    return dist.MultivariateNormal(mean, covariance).log_prob(x[:, ~SEEN]).numpy()


def farthest(pixels):
    """How far mean and covariance of 3,000 completions are from the exact, in standard errors.

    They are 30 draws for each of 100 copies of an image. Draws from the same 1,000 samples share
    their errors a little: the standard errors are 2% too small.
    """
    x = torch.where(SEEN, PROBLEM.data(1), torch.nan).expand(100, -1)
    refined = Refined(PROBLEM.model, PROBLEM.prior_guide, **SMALL)
    result = complete(PROBLEM.model, refined, x, SEEN, num_draws=30, pixels=pixels)
    assert result.images.shape == (30, 100, 5)
    assert torch.equal(result.images[..., SEEN], x.expand(30, 100, 5)[..., SEEN])
    mean, with_noise, of_means = exact(x[:1])
    covariance = with_noise if pixels else of_means
    missing = result.images.flatten(0, 1)[:, ~SEEN]
    white = torch.linalg.solve(torch.linalg.cholesky(covariance), (missing - mean).T)
    checks = [off_by(white[0], 0), off_by(white[1], 0), off_by(white[0] * white[1], 0)]
    return max(map(abs, [*checks, off_by(white[0] ** 2, 1), off_by(white[1] ** 2, 1)]))


@pytest.mark.parametrize("pixels", [False, True])
def test_completions_have_the_conditional_mean_and_covariance(pixels):
    assert farthest(pixels) < 5


def test_draws_that_are_not_resampled_are_seen(monkeypatch):
    """With the prior in the place of the fit resampling alone makes them right: the planted bug."""
    monkeypatch.setattr(Refined, "__call__", lambda self, x, *rest: PROBLEM.prior_guide(x))
    monkeypatch.setattr(completion.torch, "softmax", lambda w, dim: torch.ones_like(w) / len(w))
    assert farthest(pixels=True) > 5


def test_the_missing_pixels_have_their_log_probability():
    """In 300 runs on one image 95% of intervals hold it, to 5 standard errors of that share."""
    x = PROBLEM.data(1).expand(300, -1)
    refined = Refined(PROBLEM.model, PROBLEM.prior_guide, **SMALL)
    result = complete(PROBLEM.model, refined, x, SEEN, num_draws=1, num_samples=300)
    z = (result.missing - exact_missing(x)) / result.missing_se
    assert (abs(z) < 5).all()
    assert abs((abs(z) < 1.96).mean() - 0.95) < 5 * (0.95 * 0.05 / 300) ** 0.5
    assert (result.missing_se > result.seen.se).all()
    alone = log_likelihood(PROBLEM.model, refined, x, num_samples=300, mask=SEEN)
    assert (result.seen.value == alone.value).all()
    assert (result.ess == alone.ess).all()


def test_nothing_but_missing_depends_on_pixels_that_are_not_seen():
    x = PROBLEM.data(3)
    hidden = torch.where(SEEN, x, torch.nan)
    options = {"num_draws": 2, "num_samples": 100, "pixels": True}
    refined = Refined(PROBLEM.model, PROBLEM.wide_guide, **SMALL)
    one, other = (complete(PROBLEM.model, refined, given, SEEN, **options) for given in (x, hidden))
    assert torch.equal(one.images, other.images)
    assert (one.seen.value == other.seen.value).all()
    assert one.missing is not None
    assert other.missing is None
    assert other.missing_se is None


def test_completions_of_a_conditional_autoencoder_follow_the_labels():
    """Mean images of the model's own decoder where the pixels are not seen, x where they are."""
    model, guide = build_vae(2, num_classes=10, architecture="dense")
    x, y = torch.rand(3, 1, 28, 28), torch.tensor([1, 2, 3])
    mask = torch.zeros(28, 28, dtype=torch.bool)
    mask[:14] = True
    refined = Refined(model, guide, **SMALL)
    result = complete(model, refined, x, mask, y, num_draws=4, num_samples=50)
    assert torch.equal(result.images[..., :14, :], x.expand(4, -1, -1, -1, -1)[..., :14, :])
    below = result.images[..., 14:, :]
    assert ((below > 0) & (below < 1)).all()
    other = complete(model, refined, x, mask, y + 1, num_draws=4, num_samples=50)
    assert not torch.allclose(below, other.images[..., 14:, :])
    drawn = complete(model, refined, x, mask, y, num_draws=4, num_samples=50, pixels=True)
    assert drawn.images[..., 14:, :].unique().tolist() == [0, 1]


def test_more_images_than_a_block_and_more_draws_than_a_chunk():
    x = PROBLEM.data(120)
    refined = Refined(PROBLEM.model, PROBLEM.wide_guide, **SMALL)
    options = {"num_draws": 30, "num_samples": 50, "pixels": True}
    result = complete(PROBLEM.model, refined, x, SEEN, **options)
    assert result.images.shape == (30, 120, 5)
    first = complete(PROBLEM.model, refined, x[:100], SEEN, **options)
    assert torch.equal(result.images[:, :100], first.images)
    assert len(result.images[:, 0, 1].unique()) == 30  # no chunk has the numbers of another


def no_mean(z, x):
    to_unit = [dist.transforms.SigmoidTransform()]
    pixels = dist.TransformedDistribution(dist.Normal(z @ PROBLEM.w.T, 1.0), to_unit)
    pyro.sample("x", pixels.to_event(1), obs=x)


def whole_numbers(z, x):
    """A Categorical has a mean, which is NaN."""
    logits = (z @ PROBLEM.w.T)[..., None] * torch.arange(2)
    pyro.sample("x", dist.Categorical(logits=logits).to_event(1), obs=x.round())


def autoregressive(z, x):
    """Of each pixel that is seen the left neighbour is seen too, so that p(x_seen) is right."""
    mean = z @ PROBLEM.w.T + torch.nn.functional.pad(x[..., :-1], (1, 0))
    pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (no_mean, "site 'x' has a distribution without a mean: ask for draws"),
        (whole_numbers, "site 'x' has a distribution without a mean: ask for draws"),
        (autoregressive, "site 'x' depends on pixels that mask calls not seen"),
    ],
)
def test_what_cannot_be_completed_is_refused(pixels, said):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            pixels(z, x)

    x = torch.rand(2, 5, generator=torch.Generator().manual_seed(0)).double()
    x = x.round() if pixels is whole_numbers else x
    left = torch.tensor([True, True, True, False, False])
    log_p = log_likelihood(model, PROBLEM.prior_guide, x, mask=left)
    assert np.isfinite(log_p.value).all()
    with pytest.raises(InputError, match=said):
        complete(model, Refined(model, PROBLEM.prior_guide, **SMALL), x, left, num_samples=20)


def test_images_that_are_impossible_are_refused():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            zero = (z * 0).sum(-1, keepdim=True).expand(*z.shape[:-1], 5)
            pixels = dist.Uniform(zero, zero + 1, validate_args=False)
            pyro.sample("x", pixels.to_event(1), obs=x)

    class Prior(Refined):
        def __call__(self, x, *rest):
            PROBLEM.prior_guide(x)

    prior = Prior(model, PROBLEM.prior_guide)
    with pytest.raises(InputError, match="seen pixels have probability zero at every sample"):
        complete(model, prior, 2 * torch.ones(2, 5).double(), SEEN, num_samples=20)
