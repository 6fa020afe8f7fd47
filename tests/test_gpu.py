"""On a GPU, where there is one: the model in all its digits, log p(x), training, the gaps."""

import copy

import numpy as np
import pytest
import torch

from pyro_vae.analysis.comparison import evaluate
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.importance import log_joint_in_chunks, log_likelihood
from pyro_vae.networks.labels import LabelLinear
from pyro_vae.training.fit import fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(scope="module")
def on_gpu(trained_appendix):
    return tuple(copy.deepcopy(part).to("cuda") for part in trained_appendix)


@pytest.mark.parametrize("grad", [False, True])
def test_the_model_is_not_rounded(trained_appendix, on_gpu, digits, grad):
    """Both of the decoder's ways, against float64; TF32 is off by a hundred times as much."""
    model, rounded = copy.deepcopy(trained_appendix[0]).double(), on_gpu[0]
    x = digits.test_images[:20]
    z = 2 * torch.randn(50, 20, 2)
    with torch.set_grad_enabled(grad):
        exact = log_joint_in_chunks(model, [x.double()], {"z": z.double()})
        found = log_joint_in_chunks(rounded, [x.cuda()], {"z": z.cuda()})
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("refine", [False, True])
def test_log_p_is_that_of_the_processor(trained_appendix, on_gpu, digits, refine):
    """Within 5 standard errors of both, for 20 images: fails for 1 set of images in 80,000."""
    x = digits.test_images[:20]
    both = []
    for (model, guide), images in ((trained_appendix, x), (on_gpu, x.cuda())):
        proposal = Refined(model, guide) if refine else guide
        both.append(log_likelihood(model, proposal, images, num_samples=2000))
    trusted = both[0].trusted() & both[1].trusted()
    assert trusted.sum() > (18 if refine else 2)
    apart = abs(both[0].value - both[1].value) / (both[0].se ** 2 + both[1].se ** 2) ** 0.5
    assert (apart[trusted] < 5).all()


def test_training_learns_and_is_repeated(on_gpu, digits):
    """With the same seed the same history, to rounding; with another seed another."""
    x = digits.train_images[:400].cuda()
    histories = []
    for seed in (5, 5, 6):
        history = fit(*copy.deepcopy(on_gpu), (x,), epochs=3, batch_size=50, seed=seed)
        histories.append([record["train_elbo"] for record in history])
    first, same, other = histories
    assert first[-1] > first[0]
    assert same == pytest.approx(first, abs=0.01)
    assert other != pytest.approx(first, abs=0.01)


def test_gaps_are_those_of_the_processor(trained_appendix, on_gpu, digits):
    """Within 5 standard errors of both and 0.2 nats, which the search for q* may leave behind."""
    x = digits.test_images[:4]
    options = {"num_samples": 500, "gap_images": 4}
    here, there = evaluate(*trained_appendix, x, **options), evaluate(*on_gpu, x.cuda(), **options)
    for name, gap in here.gaps.items():
        errors = np.hypot(here.gap_errors[name], there.gap_errors[name])
        assert (abs(gap - there.gaps[name]) < 5 * errors + 0.2).all(), name


def test_the_gradient_of_labels_has_the_same_bits_each_time():
    """That of index_select has others in each pass."""
    layer = LabelLinear(10, 64, num_classes=10).cuda()
    x, y = torch.randn(1000, 10, device="cuda"), torch.randint(0, 10, (1000,), device="cuda")
    scale = torch.arange(64, device="cuda")
    first, *others = (
        torch.autograd.grad((layer(x, y) * scale).square().sum(), list(layer.parameters()))
        for _ in range(20)
    )
    for again in others:
        assert all(map(torch.equal, first, again))
