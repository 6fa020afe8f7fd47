"""Encoders as Pyro guides: q(z | x), and q(z | x, y) where the model takes labels.

A guide is any callable with the model's signature that samples the model's latent sites inside a
plate "data" over the images. Nothing that trains it or estimates with it asks for its class.

An *amortised* guide is an encoder, which turns each image into a row of numbers, and a family of
distributions, which makes q(z | x) of them. Most guides here differ in their family alone, and so
may a user's: see `Amortised`. `GUIDES` names those that can be asked for by name; each is made for
a model, whose latent dimension and number of classes it reads.
"""

from torch import nn

from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.flows import InverseAutoregressive, Spline
from pyro_vae.guides.gaussian import FullRank, MeanField
from pyro_vae.guides.mixture import Mixture
from pyro_vae.guides.prior import PriorGuide
from pyro_vae.guides.semi_amortised import SemiAmortised

# Guides by name: each is called with the model. The refined guide is not among them, since it is
# not trained: `pyro_vae.refined.Refined` makes it of a model and any one of these.
GUIDES: dict[str, type[nn.Module]] = {
    "mean_field": MeanField,
    "full_rank": FullRank,
    "mixture": Mixture,
    "inverse_autoregressive": InverseAutoregressive,
    "spline": Spline,
    "semi_amortised": SemiAmortised,
    "prior": PriorGuide,
}
AMORTISED = {name: kind for name, kind in GUIDES.items() if issubclass(kind, Amortised)}
