"""Data and autoencoders that the tests share."""

from pathlib import Path

import pyro
import pytest

from pyro_vae.data import MNIST_MD5, RAW, data_root, load_digits, load_mnist
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae, load_vae

CHECKPOINTS = Path(__file__).parents[1] / "results" / "checkpoints"


@pytest.fixture(autouse=True)
def _fresh_pyro():
    """Every test starts from an empty parameter store and a known seed."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)


@pytest.fixture(scope="session")
def mnist():
    """Real MNIST where it lies; the tests that need it are reported as skipped elsewhere."""
    root = data_root()
    if not all((root / RAW / name).is_file() for name in MNIST_MD5):
        pytest.skip(f"MNIST is not in {root}: set PYRO_VAE_DATA")
    return load_mnist(root)


@pytest.fixture(scope="session")
def digits():
    return load_digits()


@pytest.fixture(scope="session")
def trained(digits):
    """A small autoencoder (d = 2) trained for six epochs on the digits: model and guide."""
    pyro.set_rng_seed(0)
    model, guide = build_vae(2)
    fit(model, guide, (digits.train_images,), epochs=6, batch_size=50, progress=False)
    return model, guide


@pytest.fixture(scope="session", params=[4, 20])
def record(request):
    """The autoencoders of record: model, guide, config."""
    return load_vae(CHECKPOINTS / f"d{request.param}.pt")
