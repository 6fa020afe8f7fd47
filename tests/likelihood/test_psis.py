import math
import sys

import numpy as np
import pytest
import torch

from pyro_vae.likelihood import psis
from pyro_vae.likelihood.psis import khat_threshold, pareto_khat


def zhang_stephens(tail):
    """The shape that Zhang and Stephens (2009) fit to excesses over a threshold, as in loo 2.8.

    It is drawn towards 0.5 by a prior worth ten weights.
    """
    x = sorted(tail)
    n, m = len(x), 30 + int(len(x) ** 0.5)
    quantile = x[int(n / 4 + 0.5) - 1]
    theta = [1 / x[-1] + (1 - math.sqrt(m / (j - 0.5))) / 3 / quantile for j in range(1, m + 1)]
    log_of = [n * profile(t, x) for t in theta]
    posterior = [math.exp(value - max(log_of)) for value in log_of]
    # ArviZ leaves out what is below ten roundings
    posterior = [p if p >= 10 * sys.float_info.epsilon * sum(posterior) else 0 for p in posterior]
    mean = sum(t * p for t, p in zip(theta, posterior, strict=True)) / sum(posterior)
    k = np.log1p(-mean * np.array(x)).mean()
    return (n * k + 10 * 0.5) / (n + 10)


def profile(theta, x):
    """The profile log-likelihood of one excess: k = mean log(1 - theta x), scale -k / theta."""
    if theta == 0:  # the limit: an exponential distribution
        return -math.log(np.mean(x)) - 1
    k = np.log1p(-theta * np.array(x)).mean()
    return math.log(-theta / k) - k - 1


def khat_by_hand(log_w):
    """k-hat of one image's log weights, (K,): the definition."""
    if log_w.max() == -math.inf:
        return math.inf
    tail = math.ceil(min(len(log_w) / 5, 3 * math.sqrt(len(log_w))))
    log_w = np.sort(log_w - log_w.max())
    log_w[log_w < math.log(sys.float_info.min)] = -math.inf
    quarter = int(tail / 4 + 0.5) - 1
    if log_w[-tail] in (log_w[-tail - 1], log_w[quarter - tail]):
        log_w = spread(log_w)
    return fit_tail(log_w, tail)


def fit_tail(log_w, tail):
    """The shape of those of the largest weights that are above the next one, and above zero."""
    log_w = np.sort(log_w)
    threshold = max(log_w[-tail - 1], math.log(sys.float_info.min))
    above = log_w[-tail:][log_w[-tail:] > threshold]
    if len(above) < 6:
        return math.inf
    return zhang_stephens(np.exp(above) - math.exp(threshold))


def spread(log_w):
    """Equal weights evenly over the interval down to the next lower one, or to zero."""
    spread, below = [], 0.0
    for value in sorted(set(log_w)):
        w, n = math.exp(value), list(log_w).count(value)
        spread += [below + (w - below) * i / n for i in range(1, n + 1)]
        below = w
    with np.errstate(divide="ignore"):
        return np.log(spread)


def weight_sets():
    """Log weights (K, B) of many kinds and sizes, 2,880 sets of them."""
    rng = np.random.default_rng(0)
    for K in (26, 30, 99, 101, 225, 226, 230, 1000):
        B = (K, 30)
        for scale in (0.1, 1, 30, 300):  # the last reaches beyond the smallest float
            yield rng.normal(0, scale, B)
        for shape in (0.2, 0.7, 1.5):
            yield rng.exponential(shape, B)
        with np.errstate(divide="ignore"):
            yield np.log(rng.integers(1, 9, B))
            yield np.log(rng.integers(0, 3, B))
            yield np.where(rng.random(B) < rng.random(30), -np.inf, rng.normal(0, 1, B))
        yield np.where(rng.random(B) < 0.1, 2.0, rng.normal(0, 1, B))
        few = np.full(B, -1e4)
        few[:5] = rng.normal(0, 1, (5, 30))
        yield few


@pytest.fixture(scope="module")
def sets():
    log_w = list(weight_sets())
    return log_w, [np.array([khat_by_hand(row) for row in block.T]) for block in log_w]


def test_khat_is_the_fit_of_zhang_and_stephens(sets):
    for log_w, expected in zip(*sets, strict=True):
        np.testing.assert_allclose(pareto_khat(log_w), expected, rtol=1e-8, atol=1e-8)


def by_arviz(log_w):
    """k-hat of each image by ArviZ, which 0.2x takes log weights and 1.x their negatives.

    Both find the length of a tail in other ways; given the tail alone, and copies of its threshold,
    they agree on it.
    """
    K, found = len(log_w), []
    tail = math.ceil(min(K / 5, 3 * math.sqrt(K)))
    for row in np.sort(log_w - log_w.max(0), axis=0).T:
        few = max(row[-tail - 1], math.log(sys.float_info.min))
        n = int((row[-tail:] > few).sum())
        sample = np.full(max(5 * n, math.ceil(n**2 / 9)), few)
        sample[len(sample) - n :] = row[len(row) - n :]
        found.append(arviz_khat(sample))
    return np.array(found)


def arviz_khat(sample):
    try:
        from arviz_stats.base import array_stats
    except ImportError:
        from arviz import psislw

        return float(psislw(sample)[1])
    return float(array_stats.psislw(-sample)[1])


@pytest.mark.parametrize("num_samples", [50, 100, 225, 1000, 5000])
def test_khat_is_arvizs(num_samples):
    rng = np.random.default_rng(num_samples)
    log_w = rng.exponential(rng.uniform(0.05, 2, 100), (num_samples, 100))
    log_w += rng.normal(0, 1, (num_samples, 100)) * rng.uniform(0, 3, 100)
    np.testing.assert_allclose(pareto_khat(log_w), by_arviz(log_w), rtol=1e-8, atol=1e-8)


def test_weights_of_the_wrong_sign_are_another_matter():
    """Log weights with the other sign have a light tail where there is a heavy one."""
    log_w = np.random.default_rng(0).exponential(1.2, (1000, 50))
    assert np.median(pareto_khat(log_w)) > 0.9
    assert np.median(pareto_khat(-log_w)) < 0
    np.testing.assert_allclose(by_arviz(log_w), pareto_khat(log_w), rtol=1e-8)


def test_images_are_fitted_alike_in_one_piece_or_many(monkeypatch):
    log_w = np.random.default_rng(0).exponential(0.7, (1000, 20))
    whole = pareto_khat(log_w)
    monkeypatch.setattr(psis, "AT_ONCE", 1)
    np.testing.assert_allclose(pareto_khat(log_w), whole, rtol=1e-12)
    np.testing.assert_allclose([pareto_khat(column[:, None])[0] for column in log_w.T], whole)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_khat_is_the_shape_of_a_pareto_tail(shape):
    """Mean of 200 fits to 284 tail weights each.

    A fit's standard deviation is about (1 + k) / sqrt(284) and the weak prior draws it towards 0.5
    by under 0.02, so that the mean is within 0.05 but for a chance far below one in a million.
    """
    uniform = torch.rand(9000, 200, generator=torch.Generator().manual_seed(0)).double()
    weights = uniform**-shape  # a Pareto distribution with tail index 1 / shape
    assert abs(pareto_khat(weights.log()).mean() - shape) < 0.05


def test_the_scale_of_the_weights_does_not_matter_and_they_are_not_changed():
    log_w = torch.randn(500, 3).double()
    before = log_w.clone()
    np.testing.assert_allclose(pareto_khat(log_w), pareto_khat(log_w - 700), atol=1e-6)
    assert torch.equal(log_w, before)


def test_no_tail_no_trust():
    assert (pareto_khat(torch.randn(25, 4)) == math.inf).all()
    assert (pareto_khat(torch.randn(26, 4)) < math.inf).all()
    assert (pareto_khat(torch.full((26, 4), -math.inf)) == math.inf).all()
    assert (pareto_khat(torch.zeros(1, 4)) == math.inf).all()
    one_weight_takes_all = torch.full((1000, 1), -1e4)
    one_weight_takes_all[0] = 0
    assert pareto_khat(one_weight_takes_all) == math.inf


def test_constant_weights_are_perfect():
    assert (pareto_khat(torch.full((100, 2), -3.3)) == -math.inf).all()


def test_weights_that_are_equal_but_for_rounding_count_as_equal():
    """Half of them are the largest. Beside the rounding the fit would see whole numbers of it."""
    log_w = torch.zeros(1000, 1).double()
    log_w[500:] = -5
    rounding = 1e-15 * torch.randn(1000, 1, generator=torch.Generator().manual_seed(0)).double()
    assert pareto_khat(log_w + rounding) == pytest.approx(pareto_khat(log_w), abs=1e-8)
    assert pareto_khat(log_w) < 0


def test_threshold():
    assert khat_threshold(1) == -math.inf
    assert khat_threshold(10) == pytest.approx(0)
    assert khat_threshold(100) == pytest.approx(0.5)
    assert khat_threshold(1000) == pytest.approx(2 / 3)
    assert khat_threshold(10**6) == 0.7


def test_few_different_weights_that_are_bounded_can_be_trusted():
    """A discrete latent's: the tail begins in the midst of equal weights, and ends there."""
    torch.manual_seed(0)
    eight = torch.log(torch.arange(1.0, 9.0))[torch.randint(8, (1000, 5))]
    two = torch.log(torch.tensor([1.0, 10.0]))[torch.randint(2, (1000, 5))]
    some_zero = torch.log(torch.tensor([0.0, 1.0]))[torch.randint(2, (1000, 5))]
    for log_w in (eight, two, some_zero):
        assert (pareto_khat(log_w) < 0).all()
        assert (pareto_khat(log_w[:100]) < 0.5).all()


def test_a_large_weight_that_is_drawn_rarely_is_not_trusted():
    """As where the weights differ a little: there k-hat is 0.7 for one such draw, 3 for ten."""
    for draws, low in ((1, 0.65), (2, 0.9), (10, 2.0)):
        log_w = torch.zeros(1000, 1).double()
        log_w[:draws] = math.log(1e6)
        assert pareto_khat(log_w) > low
        continuous = log_w + 0.1 * torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
        assert pareto_khat(log_w) == pytest.approx(pareto_khat(continuous), rel=0.2)


def test_weights_rounded_to_whole_numbers_have_the_shape_of_their_tail():
    uniform = torch.rand(9000, 100, generator=torch.Generator().manual_seed(0)).double()
    for shape in (0.5, 0.9):
        rounded = (10 * uniform**-shape).ceil()  # ties all through the tail
        assert abs(pareto_khat(rounded.log()).mean() - shape) < 0.1
