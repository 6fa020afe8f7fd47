"""log p(x_seen) held against closed forms, and what a mask must not change.

Statistical tolerances are 5 standard errors: each comparison fails for one seed in 1.7 million.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood import masking
from pyro_vae.likelihood.importance import log_likelihood, log_weights
from pyro_vae.models import ContinuousBernoulli, Model
from pyro_vae.problems import LinearGaussian
from pyro_vae.vae import Vae
from tests.autoencoders import build_vae
from tests.shared import GUIDES, off_by

PROBLEM = LinearGaussian(latent_dim=2, data_dim=5)
SEEN = torch.tensor([True, False, True, True, False])
SMALL = {"num_starts": 2, "samples_per_round": (100, 100)}


def exact(x, seen):
    """The log density of the seen pixels of one image or many: N(0, W_s W_s' + s^2 I)."""
    w = PROBLEM.w[seen]
    covariance = w @ w.T + PROBLEM.noise**2 * torch.eye(len(w)).double()
    zero = torch.zeros(len(w), dtype=torch.float64)
    return dist.MultivariateNormal(zero, covariance).log_prob(x[..., seen])


def off_exact():
    """How far p(x_seen) by the prior guide is from the closed form, in standard errors."""
    x = PROBLEM.data(1).expand(2000, -1)
    value = log_likelihood(PROBLEM.model, PROBLEM.prior_guide, x, num_samples=100, mask=SEEN).value
    return abs(off_by(np.exp(value - exact(x[:1], SEEN).numpy()), 1))


# --- the estimate ---------------------------------------------------------------------------


def test_unbiased_on_the_likelihood_scale():
    assert off_exact() < 5


def all_pixels(fn, seen, name):
    return fn


def the_others(fn, seen, name):
    return dist.Independent(fn.base_dist.mask(~seen), 1)


def the_next(fn, seen, name):
    return dist.Independent(fn.base_dist.mask(seen.roll(1, -1)), 1)


@pytest.mark.parametrize("bug", [all_pixels, the_others, the_next])
def test_a_planted_bug_is_seen(monkeypatch, bug):
    monkeypatch.setattr(masking, "_of_seen", bug)
    monkeypatch.setattr("pyro_vae.likelihood.importance.check_unseen", lambda *_: None)
    assert off_exact() > 5


@pytest.mark.parametrize("guide", GUIDES)
def test_the_refined_guide_is_fitted_to_the_seen_pixels(guide):
    """Each image has a mask of its own; the proposal is as good as it is for whole images."""
    x = PROBLEM.data(6)
    seen = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    options = {"num_starts": 5, "samples_per_round": (250, 500)}
    refined = Refined(PROBLEM.model, getattr(PROBLEM, guide), **options)
    result = log_likelihood(PROBLEM.model, refined, x, num_samples=1000, mask=seen)
    wanted = np.array([float(exact(x[b], seen[b])) for b in range(6)])
    assert (abs(result.value - wanted) < 5 * result.se).all()
    assert (result.ess > 800).all()
    of_whole = log_likelihood(PROBLEM.model, Wrong(refined), x, num_samples=1000, mask=seen)
    assert np.median(of_whole.ess) < 0.2 * np.median(result.ess)


class Wrong:
    """A refined guide that is not told of the mask: it is fitted to the zeros too."""

    takes_samples = True

    def __init__(self, refined):
        self.refined = refined

    def __call__(self, x):
        self.refined(x)


def test_the_standard_error_covers():
    """In 300 runs on one image 95% of intervals hold log p(x_seen), to 5 standard errors."""
    x = PROBLEM.data(1).expand(300, -1)
    result = log_likelihood(PROBLEM.model, PROBLEM.prior_guide, x, num_samples=2000, mask=SEEN)
    z = (result.value - exact(x, SEEN).numpy()) / result.se
    assert abs((abs(z) < 1.96).mean() - 0.95) < 5 * (0.95 * 0.05 / 300) ** 0.5


# --- what a mask must not change ------------------------------------------------------------


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("classes", [0, 10])
def test_all_pixels_seen_is_the_plain_estimate_bit_for_bit(refined, classes):
    model, guide = build_vae(2, num_classes=classes, architecture="dense")
    if refined:
        guide = Refined(model, guide, **SMALL)
    x, y = torch.rand(5, 1, 28, 28), torch.arange(5)
    batch = [x, y] if classes else [x]
    plain = log_weights(model, guide, *batch, num_samples=30, seed=3)
    mask = torch.ones(28, 28, dtype=torch.bool)
    assert torch.equal(plain, log_weights(model, guide, *batch, num_samples=30, seed=3, mask=mask))


def test_no_pixel_seen_has_probability_one():
    mask, x = torch.zeros(5, dtype=torch.bool), PROBLEM.data(4)
    options = {"num_samples": 1000, "mask": mask}
    assert (log_weights(PROBLEM.model, PROBLEM.prior_guide, x, **options) == 0).all()
    refined = Refined(PROBLEM.model, PROBLEM.wide_guide, num_starts=2)
    result = log_likelihood(PROBLEM.model, refined, x, **options)
    assert (abs(result.value) < 5 * result.se).all()
    assert (result.se < 0.02).all()


@pytest.mark.parametrize("pixel_distribution", [None, ContinuousBernoulli])
@pytest.mark.parametrize("refined", [False, True])
def test_nothing_depends_on_pixels_that_are_not_seen(refined, pixel_distribution):
    """Nor do the gradients by which the refined guide is fitted."""
    vae = Vae.build(2, architecture="dense", precision="float32")
    model, guide = vae.model, vae.guide
    if pixel_distribution:
        model = Model(model.decoder, pixel_distribution)
    if refined:
        guide = Refined(model, guide, **SMALL)
    x, seen = torch.rand(3, 1, 28, 28), torch.rand(28, 28) < 0.5
    results = []
    for value in (0.0, 1.0, -7.0, torch.nan):
        given = torch.where(seen, x, torch.tensor(value))
        results.append(log_weights(model, guide, given, num_samples=50, mask=seen))
    assert results[0].isfinite().all()
    assert all(torch.equal(results[0], other) for other in results)


def test_a_density_without_gradient_at_zero():
    """Gamma pixels: log 0 must not enter the gradients, though x is filled with zeros."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            rate = z.exp().expand(*z.shape[:-1], 3)
            pyro.sample("x", dist.Gamma(2 * rate, rate).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))

    x = torch.tensor([[1.0, 2.0, torch.nan], [0.5, 1.0, torch.nan]])
    mask = torch.tensor([True, True, False])
    z = torch.linspace(-8, 8, 20_001)[:, None, None].double()
    log_p = dist.Gamma(2 * z.exp(), z.exp()).log_prob(x[:, :2].double()).sum(-1)
    log_p = log_p + dist.Normal(0.0, 1.0).log_prob(z[..., 0])
    by_quadrature = (log_p.logsumexp(0) + np.log(16 / 20_000)).numpy()
    result = log_likelihood(model, Refined(model, guide, **SMALL), x, num_samples=1000, mask=mask)
    assert (abs(result.value - by_quadrature) < 5 * result.se).all()


def test_blocks_chunks_and_masks_of_one_image_or_all():
    """250 images are more than two blocks; chunks cut images and samples."""
    x, guide = PROBLEM.data(250), PROBLEM.wide_guide
    seen = SEEN.expand(250, 5)
    whole = log_weights(PROBLEM.model, guide, x, num_samples=20, mask=SEEN)
    again = log_weights(PROBLEM.model, guide, x, num_samples=20, mask=seen, chunk_size=7)
    torch.testing.assert_close(whole, again, rtol=0, atol=1e-12)
    differing = torch.rand(250, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    many = log_weights(PROBLEM.model, guide, x, num_samples=20, mask=differing)
    first = log_weights(PROBLEM.model, guide, x[:100], num_samples=20, mask=differing[:100])
    torch.testing.assert_close(many[:, :100], first, rtol=0, atol=1e-12)


# --- programs that users write --------------------------------------------------------------


class Rows(nn.Module):
    """A decoder that takes one leading dimension only, and pixels that the model flattens."""

    def __init__(self):
        super().__init__()
        self.to_square, self.up = nn.Linear(2, 4), nn.ConvTranspose2d(1, 1, 2, stride=2)

    def logits(self, z):
        return self.up(self.to_square(z).view(-1, 1, 2, 2))

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pixels = dist.Bernoulli(logits=self.logits(z).view(len(x), 16))
            pyro.sample("pixels", pixels.to_event(1), obs=x.flatten(1))

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.flatten(1)[:, :2], 1.0).to_event(1))


def test_copies_as_rows_and_flattened_pixels():
    torch.manual_seed(0)
    rows, seen = Rows(), torch.rand(1, 4, 4) < 0.5
    x = torch.rand(3, 1, 4, 4).round()
    with torch.no_grad():
        axis = torch.linspace(-6, 6, 241)
        z = torch.cartesian_prod(axis, axis)
        log_p = dist.Bernoulli(logits=rows.logits(z)[:, None]).log_prob(x)  # (241^2, 3, 1, 4, 4)
        log_p = (log_p * seen).sum((2, 3, 4)) + dist.Normal(0.0, 1.0).log_prob(z).sum(-1)[:, None]
        by_quadrature = (log_p.logsumexp(0) + 2 * np.log(12 / 240)).numpy()
    for guide in (rows.guide, Refined(rows.model, rows.guide, **SMALL)):
        result = log_likelihood(rows.model, guide, x, num_samples=2000, mask=seen)
        assert (abs(result.value - by_quadrature) < 5 * result.se + 1e-3).all()


def test_a_mask_of_images_without_a_channel():
    rows, x = Rows(), torch.rand(3, 1, 4, 4).round()
    seen = torch.rand(3, 4, 4) < 0.5
    whole = log_weights(rows.model, rows.guide, x, num_samples=5, mask=seen[:, None])
    again = log_weights(rows.model, rows.guide, x, num_samples=5, mask=seen)
    assert torch.equal(whole, again)


def labelled_model(x, y):
    """Labels shift the images, x = y + W z + noise, and are observed themselves half the time."""
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(torch.tensor(0.3).double()), obs=y.double())
        z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
        mean = y[..., None] + z @ PROBLEM.w.T
        pyro.sample("x", dist.Normal(mean, PROBLEM.noise).to_event(1), obs=x)


def labelled_guide(x, y):
    PROBLEM.prior_guide(x)


def test_labels_and_other_observed_sites_stay_observed():
    y = torch.tensor([0, 1, 1, 0])
    x = PROBLEM.data(4) + y[:, None]
    of_y = torch.tensor([0.7, 0.3]).double().log()[y]
    wanted = (of_y + exact(x - y[:, None], SEEN)).numpy()
    refined = Refined(labelled_model, labelled_guide)
    result = log_likelihood(labelled_model, refined, x, y, num_samples=1000, mask=SEEN)
    assert (abs(result.value - wanted) < 5 * result.se).all()


def test_an_observed_site_larger_than_the_images_stays_observed():
    def model(x, extra):
        with pyro.plate("copy", len(x)):
            pyro.sample("extra", dist.Normal(0.0, 1.0).expand([9]).to_event(1), obs=extra)
        PROBLEM.model(x)

    x, extra = PROBLEM.data(4), torch.randn(4, 9).double()
    of_extra = dist.Normal(0.0, 1.0).log_prob(extra).sum(-1)
    refined = Refined(model, lambda x, extra: PROBLEM.prior_guide(x))
    result = log_likelihood(model, refined, x, extra, num_samples=1000, mask=SEEN)
    assert (abs(result.value - (of_extra + exact(x, SEEN)).numpy()) < 5 * result.se).all()


def test_an_autoguide_with_numbers_for_each_image():
    x = PROBLEM.data(120)  # more than a block
    refined = Refined(PROBLEM.model, AutoNormal(PROBLEM.model), **SMALL)
    result = log_likelihood(PROBLEM.model, refined, x, num_samples=200, mask=SEEN)
    assert (abs(result.value - exact(x, SEEN).numpy()) < 5 * result.se).all()


def test_a_vae_takes_a_mask_too():
    vae = Vae.build(2, architecture="dense", precision="float32")
    x, mask = torch.rand(2, 1, 28, 28), torch.rand(28, 28) < 0.5
    expected = log_likelihood(vae.model, vae.guide, x, num_samples=20, mask=mask)
    assert (vae.log_likelihood(x, num_samples=20, mask=mask).value == expected.value).all()


# --- refusals -------------------------------------------------------------------------------


def score(model, x=None, mask=SEEN):
    return log_likelihood(
        model, PROBLEM.prior_guide, PROBLEM.data(3) if x is None else x, mask=mask
    )


def observing(pixels):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            pixels(z, x)

    return model


def joined(z, x):
    pyro.sample("x", dist.MultivariateNormal(z @ PROBLEM.w.T, torch.eye(5).double()), obs=x)


def other_values(z, x):
    pyro.sample("x", dist.Normal(z @ PROBLEM.w.T, 1.0).to_event(1), obs=x + 1)


def autoregressive(z, x):
    """Each pixel depends on the one to its left."""
    mean = z @ PROBLEM.w.T + x.roll(1, -1)
    pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)


def sum_observed_too(z, x):
    pyro.sample("x", dist.Normal(z @ PROBLEM.w.T, 1.0).to_event(1), obs=x)
    pyro.sample("sum", dist.Normal(z.sum(-1), 1.0), obs=x.sum(-1))


def a_site_for_some_images(z, x):
    if x[:, 1].mean() > 0.5:
        pyro.sample("some", dist.Normal(z.sum(-1), 1.0), obs=torch.ones(len(x)))
    pyro.sample("x", dist.Normal(z @ PROBLEM.w.T, 1.0).to_event(1), obs=x)


def a_last_site_for_some_images(z, x):
    pyro.sample("x", dist.Normal(z @ PROBLEM.w.T, 1.0).to_event(1), obs=x)
    if x[:, 1].mean() > 0.5:
        pyro.sample("some", dist.Normal(z.sum(-1), 1.0), obs=torch.ones(len(x)))


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (joined, "site 'x' is MultivariateNormal, whose pixels are not independent given z"),
        (other_values, "the model observes no site that holds the pixels of x"),
        (autoregressive, "site 'x' depends on pixels that mask calls not seen"),
        (sum_observed_too, "site 'sum' depends on pixels that mask calls not seen"),
        (a_site_for_some_images, "depends on pixels that mask calls not seen"),
        (a_last_site_for_some_images, "site 'some' depends on pixels that mask calls not seen"),
    ],
)
def test_a_model_that_a_mask_cannot_divide_is_refused(pixels, said):
    with pytest.raises(InputError, match=said):
        score(observing(pixels))


@pytest.mark.parametrize(
    "mask",
    [
        SEEN.double(),
        SEEN[:3],
        SEEN.expand(2, 5),
        SEEN.expand(4, 5),
        SEEN.expand(1, 3, 5),
        torch.tensor([0, 1, 1]),
    ],
)
def test_a_wrong_mask_is_one_line(mask):
    with pytest.raises(InputError, match=r"mask must be True where a pixel is seen.*\(5,\), not"):
        score(PROBLEM.model, mask=mask)


def test_a_seen_pixel_must_be_finite():
    x = PROBLEM.data(3)
    x[1, 0] = torch.nan
    with pytest.raises(InputError, match=r"x: .* images? ha.* at pixels that mask calls seen"):
        score(PROBLEM.model, x)
