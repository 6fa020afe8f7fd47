"""Images that no program can take are named by their number, before training and before scoring."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.analysis.comparison import evaluate
from pyro_vae.data.images import check_finite
from pyro_vae.errors import InputError
from pyro_vae.guides.prior import PriorGuide
from pyro_vae.likelihood.annealing import annealed_log_likelihood
from pyro_vae.likelihood.importance import log_likelihood, log_weights
from pyro_vae.models import Model
from pyro_vae.shards import sharded_log_likelihood
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae


class Own(nn.Module):
    """A program that takes any numbers."""

    def __init__(self, observes):
        super().__init__()
        self.observes, self.loc = observes, nn.Parameter(torch.zeros(2))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(self.loc, 1.0).to_event(1))
            if self.observes:
                pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 1.0).to_event(1), obs=x)


MODEL, GUIDE = Own(True), Own(False)
X = torch.linspace(0, 1, 250)[:, None].expand(250, 5).contiguous()


def spoilt(*rows, value=math.nan):
    x = X.clone()
    x[list(rows), 3] = value
    return x


def trains(train, test=None, **options):
    fit(MODEL, GUIDE, train, test, **{"epochs": 1, "progress": False} | options)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_image_that_is_not_finite_is_named(value):
    what = "NaN" if math.isnan(value) else "infinite numbers"
    remedy = "leave out such images"
    with pytest.raises(InputError) as error:
        check_finite(spoilt(77, value=value))
    one = f"x: 1 of 250 images has {what}; it is image 77, counted from 0: {remedy}"
    assert str(error.value) == one
    with pytest.raises(InputError) as error:
        check_finite(spoilt(200, 77, 78, value=value))
    several = f"x: 3 of 250 images have {what}; the first is image 77, counted from 0: {remedy}"
    assert str(error.value) == several
    with pytest.raises(InputError, match=f"^{one}, or score .* mask=known"):
        log_likelihood(MODEL, GUIDE, spoilt(77, value=value), num_samples=2)


def test_numbers_of_any_size_and_type_are_finite():
    check_finite(torch.full((9, 4), 3e38))  # whose sum is not
    check_finite(torch.full((9, 4), 60_000.0).half())
    check_finite(torch.tensor([3.0, 4.0]))
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float64, torch.complex64):
        check_finite(torch.ones(3, 2, dtype=dtype))


def test_fit_names_the_image_and_its_group_before_a_step():
    weights = GUIDE.loc.clone()
    for train, test, name in (
        ((spoilt(77),), None, "train: .* image 77"),
        ([(X,), (spoilt(5),)], None, r"train\[1\]: .* image 5"),
        ((X,), (spoilt(9),), "test: .* image 9"),
        ((X,), [(X,), (spoilt(9),)], r"test\[1\]: .* image 9"),
    ):
        with pytest.raises(InputError, match=f"^{name}, counted from 0: leave out such images$"):
            trains(train, test)
    assert torch.equal(GUIDE.loc, weights)


def test_a_transform_may_mend_the_images_and_may_spoil_them():
    trains((spoilt(77),), transform=torch.nan_to_num)
    with pytest.raises(
        InputError, match=r"^transform: .* in what it returned .*: check the transform$"
    ):
        trains((X,), transform=lambda x: x / 0)


def test_all_that_scores_names_the_image(tmp_path):
    x = spoilt(77)
    for score in (
        lambda: log_likelihood(MODEL, GUIDE, x, num_samples=2),
        lambda: log_weights(MODEL, GUIDE, x, num_samples=2),
        lambda: annealed_log_likelihood(MODEL, GUIDE, x, num_steps=2),
        lambda: sharded_log_likelihood(tmp_path / "blocks", MODEL, GUIDE, x),
        lambda: evaluate(MODEL, GUIDE, x),
    ):
        with pytest.raises(InputError, match=r"^x: 1 of 250 images has NaN; it is image 77"):
            score()
    assert not list(tmp_path.iterdir())


def test_what_a_mask_leaves_out_may_be_anything():
    seen = torch.tensor([True, True, True, False, True])
    assert len(log_likelihood(MODEL, GUIDE, spoilt(77), num_samples=2, mask=seen).value) == 250
    with pytest.raises(InputError, match=r"calls seen; .*: make mask False there$"):
        log_likelihood(MODEL, GUIDE, spoilt(77), num_samples=2, mask=~seen)


def test_pixels_outside_the_unit_interval_are_named_where_the_model_is_on_it():
    model, guide = build_vae(2, architecture="dense")
    x = torch.rand(250, 1, 28, 28)
    x[120:122] *= 255
    message = (
        r"2 of 250 images have pixels outside \[0, 1\]; the first is image 120, counted from 0: "
        "divide grey levels by their maximum$"
    )
    for take, name in (
        (lambda: log_likelihood(model, guide, x, num_samples=2), "x"),
        (lambda: fit(model, guide, (x,), progress=False), "train"),
        (lambda: fit(model, guide, (x[:9],), (x,), progress=False), "test"),
    ):
        with pytest.raises(InputError, match=f"^{name}: {message}"):
            take()
    normal = Model(model.decoder, lambda logits: dist.Normal(logits, 1.0))
    assert not normal.on_unit_interval
    assert len(log_likelihood(normal, PriorGuide(normal), x, num_samples=2).value) == 250
