"""Encoders as Pyro guides: q(z | x), and q(z | x, y) where the model takes labels.

A guide is any callable with the model's signature that samples the model's latent sites in a plate
"data" over the images. Whatever trains a guide or estimates with it asks for no more, and never for
its class.

An *amortised* guide has two parts: an encoder, which maps each image to parameters, and a family of
distributions, which has q(z | x) as the member with these parameters. Most guides here differ only
in the family, and so may yours: see `Amortised`. Each is made for a model, from which it takes the
latent dimension and the number of classes.
"""

from torch import nn

from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.exact import ExactGuide
from pyro_vae.guides.flows import InverseAutoregressive, Spline
from pyro_vae.guides.gaussian import FullRank, MeanField
from pyro_vae.guides.mixture import Mixture
from pyro_vae.guides.prior import PriorGuide
from pyro_vae.guides.refined import Refined
from pyro_vae.guides.semi_amortised import SemiAmortised

__all__ = [
    "AMORTISED",
    "GUIDES",
    "Amortised",
    "ExactGuide",
    "FullRank",
    "InverseAutoregressive",
    "MeanField",
    "Mixture",
    "PriorGuide",
    "Refined",
    "SemiAmortised",
    "Spline",
]

# Guides by name, each called with the model. `Refined` and `ExactGuide` are not among them: they
# are not trained, but fitted to each image.
GUIDES: dict[str, type[nn.Module]] = {
    "mean_field": MeanField,
    "full_rank": FullRank,
    "mixture": Mixture,
    "inverse_autoregressive": InverseAutoregressive,
    "spline": Spline,
    "semi_amortised": SemiAmortised,
    "prior": PriorGuide,
}
AMORTISED = {name: guide for name, guide in GUIDES.items() if issubclass(guide, Amortised)}
