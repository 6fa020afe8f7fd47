"""Every architecture, guide and prior in float64: built, trained, scored, refined, kept."""

import copy

import numpy as np
import pytest
import torch

from pyro_vae.errors import InputError
from pyro_vae.guides import AMORTISED
from pyro_vae.likelihood.annealing import annealed_log_likelihood
from pyro_vae.networks import ARCHITECTURES
from pyro_vae.training.fit import fit
from pyro_vae.vae import Vae
from tests.test_torch_settings import SMALL

X = torch.rand(3, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([2, 0, 1])


@pytest.mark.parametrize("guide", [*AMORTISED])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES])
def test_everything_is_in_float64(architecture, guide, tmp_path):
    """What is computed agrees with float32, to its rounding; files give back every bit."""
    labelled = architecture == "per_label"
    prior = "learned" if labelled else "standard"
    batch = (X, Y) if labelled else (X,)
    torch.manual_seed(1)
    vae = Vae.build(
        3, architecture=architecture, guide=guide, prior=prior, precision="float32",
        num_classes=3 if labelled else 0,
    )  # fmt: skip
    narrow = copy.deepcopy(vae)
    vae.to(torch.float64)
    images = vae.decode(torch.ones(3, 3).double(), *batch[1:])
    assert images.dtype == torch.float64
    low = narrow.decode(torch.ones(3, 3), *batch[1:])
    torch.testing.assert_close(images, low.double(), rtol=0, atol=1e-5)
    history = fit(vae.model, vae.guide, batch, batch, epochs=1, batch_size=2, progress=False)
    assert np.isfinite(history[0]["test_elbo"])
    assert {w.dtype for w in vae.model.parameters()} == {torch.float64}
    before = vae.log_likelihood(*batch, num_samples=20)
    vae.save(tmp_path / "vae.pt")
    again = Vae.load(tmp_path / "vae.pt").log_likelihood(*batch, num_samples=20)
    np.testing.assert_array_equal(before.value, again.value)
    refined = vae.refined(**SMALL).log_likelihood(*batch, num_samples=20)
    assert np.isfinite(refined.value).all()
    annealed = annealed_log_likelihood(vae.model, vae.guide, *batch, num_chains=2, num_steps=2)
    assert np.isfinite(annealed.value).all()
    assert vae.sample(3, *batch[1:]).dtype == torch.float64


@pytest.mark.parametrize("architecture", [*ARCHITECTURES])
def test_bfloat16_rounds_nothing_in_float64(architecture):
    """Who asks for float64 gets it: torch's autocast leaves it alone."""
    batch = (X, Y) if architecture == "per_label" else (X,)
    scores = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(1)
        vae = Vae.build(
            2, architecture=architecture, precision=precision, num_classes=3 * (len(batch) - 1)
        )
        scores.append(vae.to(torch.float64).log_likelihood(*batch, num_samples=3).value)
    np.testing.assert_array_equal(*scores)


def test_images_of_another_dtype_are_one_line():
    vae = Vae.build(2).to(torch.float64)
    with pytest.raises(InputError, match=r"images are float32 .* weights float64"):
        vae.log_likelihood(X.float())
