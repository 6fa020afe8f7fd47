"""The three autoencoders: several trainings of each, and log p(x) of test images under them."""

from typing import NamedTuple

from torch import Tensor

from pyro_vae.analysis.sampling import encode_style, mean_images
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.models import Model

SEED = 4  # of everything drawn for the comparison; the trainings have their own


class Contender(NamedTuple):
    """What is trained: a name for figures, d, and the networks."""

    label: str
    latent_dim: int
    architecture: str


CONTENDERS = {
    "d4": Contender("d = 4", 4, "appendix"),
    "d20": Contender("d = 20", 20, "appendix"),
    "example": Contender("PyTorch's example", 20, "dense"),
}


PAIRS = (("d20", "d4"), ("example", "d20"), ("example", "d4"))


class Vae(NamedTuple):
    """One trained autoencoder, and its scores of test images."""

    model: Model
    guide: MeanField
    config: dict
    bounds: Estimate | None = None  # of all test images, by 100 samples of the guide
    refined: Estimate | None = None  # of the chosen test images, by 1,000 of the refined guide

    def here(self, rows: Tensor) -> Tensor:
        """`rows` on the device of the networks."""
        return rows.to(next(self.model.parameters()).device)


Vaes = dict[str, list[Vae]]  # of each contender, one for each training seed


def refined(vae: Vae, x: Tensor, what: str, model: Model | None = None) -> Estimate:
    """log p(x) by 1,000 samples of the refined guide, under `model` if it is another."""
    model = model or vae.model
    guide = Refined(model, vae.guide)
    return log_likelihood(model, guide, vae.here(x), num_samples=1000, seed=SEED, progress=what)


def reconstructions(vae: Vae, x: Tensor) -> Tensor:
    """The mean image at one draw of the guide, for each image of `x`."""
    z = encode_style(vae.model, vae.guide, x, num_samples=1, seed=SEED)[0]
    return mean_images(vae.model, z)


def check_alike(vaes: Vaes) -> None:
    """Raise InputError unless all contenders were trained in the same way."""
    first = vaes["d4"][0].config
    for key, seeds in vaes.items():
        for vae in seeds:
            for option in ("epochs", "batch_size", "learning_rate"):
                if vae.config.get(option) != first.get(option):
                    raise InputError(
                        f"{key} was trained with {option}={vae.config.get(option)} and d4 with "
                        f"{first.get(option)}: add --train to train all alike, or name another "
                        "--results"
                    )
