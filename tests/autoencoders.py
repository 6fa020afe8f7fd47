"""Small autoencoders for the tests, as model and guide apart."""

from pathlib import Path

from pyro_vae.guides.amortised import Amortised
from pyro_vae.models import Model
from pyro_vae.vae import Vae


def build_vae(
    latent_dim: int = 4, precision: str = "float32", **options: object
) -> tuple[Model, Amortised]:
    vae = Vae.build(latent_dim, precision=precision, **options)
    return vae.model, vae.guide


def load_vae(path: str | Path) -> tuple[Model, Amortised, dict]:
    vae = Vae.load(path)
    return vae.model, vae.guide, vae.config


def save_vae(path: str | Path, model: Model, guide: Amortised, config: dict) -> None:
    Vae(model, guide, config).save(path)
