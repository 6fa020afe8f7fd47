"""Data and autoencoders that the tests share."""

from pathlib import Path

import matplotlib as mpl
import pyro
import pytest
import torch

from pyro_vae.data.loading import load_dataset, load_digits
from pyro_vae.data.mnist_family import data_root, missing_files
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae, load_vae

CHECKPOINTS = Path(__file__).parents[1] / "results" / "checkpoints"


def global_settings():
    """Every setting of Pyro, torch and Matplotlib that a test could leave to the next one."""
    style = {name: value for name, value in dict.items(mpl.rcParams) if name[:7] != "backend"}
    settings = {f"rcParams[{name!r}]": value for name, value in style.items()}
    settings |= {f"pyro.settings[{name!r}]": value for name, value in pyro.settings.get().items()}
    settings["torch.get_num_threads()"] = torch.get_num_threads()
    settings["torch.get_default_dtype()"] = torch.get_default_dtype()
    settings["torch.is_grad_enabled()"] = torch.is_grad_enabled()
    deterministic = torch.are_deterministic_algorithms_enabled()
    settings["torch.are_deterministic_algorithms_enabled()"] = deterministic
    return settings


def put_back(settings):
    """Make the global settings those of `settings`, from `global_settings`."""
    for name, value in settings.items():
        if name.startswith("rcParams"):
            dict.__setitem__(mpl.rcParams, name[10:-2], value)
        elif name.startswith("pyro"):
            pyro.settings.set(**{name[15:-2]: value})
    torch.set_num_threads(settings["torch.get_num_threads()"])
    torch.set_default_dtype(settings["torch.get_default_dtype()"])
    torch.set_grad_enabled(settings["torch.is_grad_enabled()"])
    torch.use_deterministic_algorithms(settings["torch.are_deterministic_algorithms_enabled()"])


SETTINGS = global_settings()


@pytest.fixture(autouse=True)
def _fresh_state():
    """Every test starts from an empty parameter store and a known seed, and leaves no setting."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    after = global_settings()
    if after != SETTINGS:
        put_back(SETTINGS)
        changed = [f"{k} from {v} to {after[k]}" for k, v in SETTINGS.items() if after[k] != v]
        pytest.fail(f"the test leaves changed: {', '.join(changed)}", pytrace=False)


@pytest.fixture(scope="session")
def mnist():
    """Real MNIST where it lies; the tests that need it are reported as skipped elsewhere."""
    if missing_files("mnist"):
        pytest.skip(f"MNIST is not in {data_root()}: set PYRO_VAE_DATA")
    return load_dataset("mnist")


@pytest.fixture(scope="session")
def digits():
    return load_digits()


@pytest.fixture(scope="session")
def trained(digits):
    """A small dense autoencoder (d = 2) trained for six epochs on the digits: model and guide."""
    pyro.set_rng_seed(0)
    model, guide = build_vae(2, architecture="dense")
    fit(model, guide, (digits.train_images,), epochs=6, batch_size=50, progress=False)
    return model, guide


@pytest.fixture(scope="session")
def trained_appendix(digits):
    """The appendix's autoencoder (d = 2) after 160 steps on the digits: model and guide."""
    pyro.set_rng_seed(0)
    model, guide = build_vae(2)
    options = {"epochs": 4, "batch_size": 10, "learning_rate": 2e-3, "progress": False}
    fit(model, guide, (digits.train_images[:400],), **options)
    return model, guide


@pytest.fixture(scope="session", params=[4, 20])
def record(request):
    """The autoencoders of record: model, guide, config."""
    return load_vae(CHECKPOINTS / f"d{request.param}.pt")
