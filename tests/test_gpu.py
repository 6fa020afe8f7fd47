"""On a GPU, where there is one: the model in all its digits, and everything that runs there."""

import copy

import pytest
import torch

from pyro_vae.comparison import evaluate
from pyro_vae.guides import FullRank
from pyro_vae.importance import log_joint, log_likelihood
from pyro_vae.refined import Refined
from pyro_vae.training import fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(scope="module")
def on_gpu(trained):
    return tuple(copy.deepcopy(part).to("cuda") for part in trained)


def test_the_model_is_not_rounded(trained, on_gpu, digits):
    """Against float64; rounded to TF32, as torch would, it is off by a hundred times as much."""
    model, rounded = copy.deepcopy(trained[0]).double(), on_gpu[0]
    x = digits.test_images[:20]
    z = 2 * torch.randn(50, 20, 2)
    exact = log_joint(model, [x.double()], {"z": z.double()})
    found = log_joint(rounded, [x.cuda()], {"z": z.cuda()})
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("refine", [False, True])
def test_log_p_is_that_of_the_processor(trained, on_gpu, digits, refine):
    """Within 5 standard errors of both, for 20 images: fails for 1 set of images in 80,000."""
    x = digits.test_images[:20]
    both = []
    for (model, guide), images in ((trained, x), (on_gpu, x.cuda())):
        proposal = Refined(model, guide) if refine else guide
        both.append(log_likelihood(model, proposal, images, num_samples=2000))
    trusted = both[0].trusted() & both[1].trusted()
    assert trusted.sum() > (18 if refine else 2)
    apart = abs(both[0].value - both[1].value) / (both[0].se ** 2 + both[1].se ** 2) ** 0.5
    assert (apart[trusted] < 5).all()


def test_training_learns_and_is_repeated(on_gpu, digits):
    x = digits.train_images[:400].cuda()
    ends = []
    for _ in range(2):
        model, guide = copy.deepcopy(on_gpu)
        history = fit(model, guide, (x,), epochs=3, batch_size=50, seed=5, progress=False)
        assert history[-1]["train_elbo"] > history[0]["train_elbo"]
        ends.append(guide.state_dict())
    for name, w in ends[0].items():
        torch.testing.assert_close(w, ends[1][name], rtol=1e-2, atol=1e-2)


def test_gaps_are_split(on_gpu, digits):
    model, guide = on_gpu[0], FullRank(on_gpu[0]).cuda()
    row = evaluate(model, guide, digits.test_images[:4].cuda(), num_samples=200, gap_images=4)
    total = row.gaps["approximation"] + row.gaps["amortisation"]
    assert abs(total - row.gaps["sum"]).max() < 1e-9
