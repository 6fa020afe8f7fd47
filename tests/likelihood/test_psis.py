import math

import numpy as np
import pytest
import torch

from pyro_vae.likelihood.psis import khat_threshold, pareto_khat


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
    assert (pareto_khat(torch.randn(20, 4)) == math.inf).all()
    assert (pareto_khat(torch.zeros(1, 4)) == math.inf).all()
    one_weight_takes_all = torch.full((1000, 1), -1e4)
    one_weight_takes_all[0] = 0
    assert pareto_khat(one_weight_takes_all) == math.inf


def test_constant_weights_are_perfect():
    assert (pareto_khat(torch.full((100, 2), -3.3)) == -math.inf).all()


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
