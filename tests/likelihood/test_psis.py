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
