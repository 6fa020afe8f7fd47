"""Encoders and decoders; `ARCHITECTURES` has the decoders by name, each with its encoder."""

from pyro_vae.networks.appendix import Decoder, Encoder, join_appendix, split_appendix
from pyro_vae.networks.dense import DenseDecoder, DenseEncoder
from pyro_vae.networks.labelled import LabelDecoder, LabelEncoder

__all__ = [
    "ARCHITECTURES",
    "Decoder",
    "DenseDecoder",
    "DenseEncoder",
    "Encoder",
    "LabelDecoder",
    "LabelEncoder",
    "join_appendix",
    "split_appendix",
]

ARCHITECTURES = {"appendix": Decoder, "per_label": LabelDecoder, "dense": DenseDecoder}
