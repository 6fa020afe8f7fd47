"""Features of drawn shapes whose size, lean and holes are known."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from pyro_vae.analysis import features, interventions
from tests.shapes import bar, blank, ring


def test_ink_floor_and_grey_pixels_by_hand():
    x = blank()
    x[..., 0, :4] = torch.tensor([0.5, 0.25, 1.0, 0.05])
    expected = sum(-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.5, 0.25, 0.05))
    assert features.ink(x) == pytest.approx(1.8)
    assert features.entropy_floor(x) == pytest.approx(expected)
    assert features.grey_pixels(x) == 2


def test_the_entropy_floor_is_the_score_of_the_best_model(mnist):
    """No probabilities score an image higher than its own grey levels do."""
    x = mnist.test_images[:20]
    own = functional.binary_cross_entropy(x, x, reduction="none").sum((1, 2, 3))
    other = functional.binary_cross_entropy(0.9 * x + 0.05, x, reduction="none").sum((1, 2, 3))
    np.testing.assert_allclose(features.entropy_floor(x), own, rtol=1e-4)
    assert (features.entropy_floor(x) < other.numpy()).all()


@pytest.mark.parametrize("wide", [1, 2, 3, 5])
def test_a_bar_has_its_height_width_and_stroke_width(wide):
    x = bar(left=10, right=10 + wide)
    assert features.height(x) == 20
    assert features.width(x) == wide
    # to an eighth of a pixel; the corners of the bar's ends add a little more
    assert features.stroke_width(x) == pytest.approx(wide, abs=0.3)


def test_stroke_width_orders_rings():
    widths = [features.stroke_width(ring(10, 10 - w))[0] for w in (1.5, 2.5, 4, 6)]
    assert widths == sorted(widths)
    assert widths[-1] == pytest.approx(6, abs=1)


def test_holes():
    two = ring(5, 3)
    two = torch.maximum(interventions.shift(two, -6, 0), interventions.shift(two, 6, 0))
    shapes = torch.cat([bar(), ring(), two, blank()])
    assert features.holes(shapes).tolist() == [0, 1, 2, 0]


def test_a_ring_that_runs_along_the_edge_has_one_hole():
    x = torch.ones(1, 1, 28, 28)
    x[..., 5:20, 5:20] = 0
    assert features.holes(x) == 1


@pytest.mark.parametrize("by", [-0.4, 0.0, 0.3])
def test_slant_is_columns_for_each_row_up(by):
    leaning = blank()
    for row in range(4, 24):
        leaning[..., row, 13 + round(by * (13.5 - row))] = 1
    assert features.slant(leaning) == pytest.approx(by, abs=0.03)


def test_centre_and_off_centre():
    x = interventions.shift(bar(4, 24, 13, 15), 3, -4)
    row, column = features.centre(x)
    assert (row, column) == (pytest.approx(16.5), pytest.approx(9.5))
    assert features.off_centre(x) == pytest.approx(5)


def test_nearest_distance_is_euclidean():
    references = torch.cat([bar(), ring(), blank()])
    x = torch.cat([bar(), ring() * 0.5])
    far = 0.5 * math.sqrt(float(ring().sum()))
    np.testing.assert_allclose(features.nearest_distance(x, references), [0, far], atol=1e-4)


@pytest.mark.parametrize("name", features.FEATURES)
def test_every_feature_is_finite_on_blank_and_full_images_and_one_number_an_image(name):
    x = torch.cat([blank(), torch.ones(1, 1, 28, 28), torch.rand(3, 1, 28, 28)])
    value = features.FEATURES[name](x)
    assert value.shape == (5,)
    assert value.dtype == np.float64
    assert np.isfinite(value).all()
