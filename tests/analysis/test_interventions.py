"""Each intervention changes the feature that it names, by as much as it says."""

import math

import numpy as np
import pytest
import torch

from pyro_vae.analysis import features, interventions
from pyro_vae.data.images import check_images
from tests.shapes import bar, ring

CHANGES = {
    "thicken": lambda x: interventions.thicken(x, 1),
    "thin": lambda x: interventions.thicken(x, -1),
    "lean": lambda x: interventions.shear(x, 0.25),
    "upright": interventions.deslant,
    "resize": lambda x: interventions.resize(x, 0.8),
    "blur": lambda x: interventions.blur(x, 0.7),
    "binarise": interventions.binarise,
    "shift": lambda x: interventions.shift(x, 2, -3),
    "shuffle": lambda x: interventions.shuffle_pixels(x, 0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_result_is_images_and_the_input_is_untouched(name, digits):
    x = digits.test_images[:6]
    before = x.clone()
    changed = CHANGES[name](x)
    check_images(changed)
    assert changed.shape == x.shape
    assert changed.dtype == x.dtype
    assert torch.equal(x, before)
    assert not torch.equal(x, changed)
    # each image is changed by itself
    alone = CHANGES[name](x[:1])
    assert torch.equal(alone, changed[:1])


def test_nothing_asked_is_nothing_done():
    x = torch.cat([bar(), ring()])
    for same in (
        interventions.thicken(x, 0),
        interventions.shear(x, 0.0),
        interventions.resize(x, 1.0),
        interventions.shift(x, 0, 0),
    ):
        torch.testing.assert_close(same, x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("by", [-1, 1, 2])
def test_thicken_adds_to_the_width_of_a_bar(by):
    """A bar of area w h becomes one of (w + by) (h + by), less the corners that a disc rounds."""
    changed = interventions.thicken(bar(4, 24, 12, 16), by)
    rounded = (4 - math.pi) * (by / 2) ** 2 if by > 0 else 0
    assert features.ink(changed) == pytest.approx((4 + by) * (20 + by) - rounded, abs=1.2)


@pytest.mark.parametrize("by", [-0.3, 0.2])
def test_shear_adds_to_the_slant(by, digits):
    for x in (bar(), digits.test_images[:10]):
        change = features.slant(interventions.shear(x, by)) - features.slant(x)
        np.testing.assert_allclose(change, by, atol=0.06)


def test_deslant_leaves_no_slant(digits):
    x = digits.test_images[:10]
    assert np.abs(features.slant(interventions.deslant(x))).max() < 0.06


def test_resize_scales_height_and_width():
    changed = interventions.resize(ring(10, 7), 0.7)
    assert features.height(changed) == pytest.approx(14, abs=1)
    assert features.width(changed) == pytest.approx(14, abs=1)


def test_blur_keeps_the_ink_and_makes_it_grey(digits):
    x = interventions.binarise(digits.test_images[:5])
    changed = interventions.blur(x, 0.7)
    np.testing.assert_allclose(features.ink(changed), features.ink(x), rtol=0.02)
    assert (features.entropy_floor(changed) > 20).all()
    assert (features.entropy_floor(interventions.binarise(changed)) == 0).all()


def test_shift_moves_the_centre():
    row, column = features.centre(interventions.shift(ring(5, 3), 4, -6))
    assert (row, column) == (pytest.approx(17.5), pytest.approx(7.5))


def test_shuffled_pixels_are_the_same_pixels(digits):
    x = digits.test_images[:3]
    changed = interventions.shuffle_pixels(x, seed=1)
    assert torch.equal(x.flatten(1).sort(1).values, changed.flatten(1).sort(1).values)
    assert torch.equal(changed, interventions.shuffle_pixels(x, seed=1))
    assert not torch.equal(changed, interventions.shuffle_pixels(x, seed=2))
    same = interventions.shuffle_pixels(x[:1].expand(2, -1, -1, -1), seed=1)
    assert not torch.equal(same[0], same[1])  # an order of its own for each image
