"""Encoders and decoders: `ARCHITECTURES` has the decoders by name."""

from pyro_vae.networks.appendix import Decoder
from pyro_vae.networks.dense import DenseDecoder
from pyro_vae.networks.labelled import LabelDecoder

ARCHITECTURES = {"appendix": Decoder, "per_label": LabelDecoder, "dense": DenseDecoder}
