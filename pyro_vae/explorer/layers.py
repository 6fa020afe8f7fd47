"""Networks as lists of layers, for a page that runs them in JavaScript."""

import numpy as np
import torch
from torch import Tensor, nn

from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.models import GreyBernoulli, Model
from pyro_vae.networks import ARCHITECTURES
from pyro_vae.networks.labels import LabelLinear
from pyro_vae.priors import LearnedPrior, StandardPrior
from pyro_vae.programs import Program
from pyro_vae.storage.owners import name_of

IMAGE = (1, 28, 28)
OURS = (*ARCHITECTURES.values(), *(each.encoder for each in ARCHITECTURES.values()))
PLAIN = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}
KNOWN = "Linear, Conv2d, MaxPool2d, Flatten, Unflatten, ReLU, LeakyReLU, Tanh, Sigmoid, LabelLinear"


class Weights:
    """Arrays put one after the other into bytes; each is named by where it begins."""

    def __init__(self):
        self.bytes = bytearray()

    def add(self, tensor: Tensor, half: bool = False) -> dict:
        """Append an array, as float16 if `half`, else float32; return where it is."""
        with np.errstate(over="ignore"):
            array = tensor.detach().cpu().numpy().astype("<f2" if half else "<f4")
        if not np.isfinite(array).all():
            raise InputError("weights must be finite, and an encoder's below 65,504")
        self.bytes += b"\0" * (-len(self.bytes) % 4)
        where = {"at": len(self.bytes), "shape": list(array.shape), "half": half}
        self.bytes += np.ascontiguousarray(array).tobytes()
        return where


def described(
    model: Program, guide: Program, name: str, classes: list[str], weights: Weights
) -> dict:
    """Return what the page needs of an autoencoder, its arrays appended to `weights`.

    Raises InputError for a guide, a prior, pixels or a layer that the page doesn't know.
    """
    if not isinstance(model, Model) or type(guide) is not MeanField:
        raise InputError(
            f"the page takes a Model with a MeanField guide, not {name_of(model)} with "
            f"{name_of(guide)}"
        )
    if model.pixel_distribution is not GreyBernoulli:
        raise InputError("the page takes Bernoulli pixels, GreyBernoulli, and no others")
    labels = getattr(model.decoder, "num_classes", 0)
    if labels and labels != len(classes):
        raise InputError(f"{name} takes {labels} labels: give classes {labels} names")
    d = model.latent_dim
    return {
        "name": name,
        "latentDim": d,
        "classes": list(classes) if labels else [],
        "decoder": layers_of(model.decoder, (d,), int(np.prod(IMAGE)), labels, weights, False),
        # any q that is both sampled and scored is a valid proposal: it may be rounded
        "encoder": layers_of(guide.encoder, IMAGE, 2 * d, labels, weights, True),
        "prior": _prior(model.prior, weights),
    }


def layers_of(
    network: nn.Module,
    shape: tuple[int, ...],
    outputs: int,
    labels: int,
    weights: Weights,
    half: bool,
) -> list[dict]:
    """Return the layers of `network`, a sequence, or a module whose only sequence they are.

    `shape` is that of an input without batch. A dense layer with `labels` inputs too many takes the
    one-hot label beside them.
    """
    sequences = [network] if isinstance(network, nn.Sequential) else [*network.children()]
    if len(sequences) != 1 or not isinstance(sequences[0], nn.Sequential):
        raise InputError(
            f"the page takes networks that are one nn.Sequential, not {type(network).__name__}"
        )
    found, given = [], shape
    for layer in sequences[0]:
        description, shape = _layer(layer, shape, labels, weights, half)
        found += description
    if int(np.prod(shape)) != outputs:
        raise InputError(f"{type(network).__name__} gives {shape}, not {outputs} numbers")
    if network is not sequences[0]:
        _check_forward(network, sequences[0], given, labels)
    return found


def _check_forward(
    network: nn.Module, layers: nn.Sequential, shape: tuple[int, ...], labels: int
) -> None:
    """Raise InputError unless the network does what its layers do, one after the other."""
    if type(network) in OURS:
        return
    if labels:
        raise InputError(
            f"the page takes labels by the package's own networks, not {type(network).__name__}"
        )
    weight = next(layers.parameters())
    x = torch.rand(2, *shape).to(weight)
    if not torch.allclose(network(x).flatten(1), layers(x).flatten(1), rtol=1e-4, atol=1e-4):
        raise InputError(f"{type(network).__name__} does more than its layers: the page can't")


def _layer(
    layer: nn.Module, shape: tuple[int, ...], labels: int, weights: Weights, half: bool
) -> tuple[list[dict], tuple[int, ...]]:
    """Return a layer as a list of one description, or of none, and the shape of its output."""
    if type(layer) in (nn.Linear, LabelLinear):
        own = isinstance(layer, LabelLinear)
        inputs, columns = int(np.prod(shape)), layer.weight.shape[-1]
        if columns not in (inputs, inputs + labels):
            raise InputError(f"{layer} follows {inputs} numbers: the page can't join them")
        description = {
            "type": "linear",
            "inputs": inputs,
            "outputs": layer.weight.shape[0],
            "labels": labels if own else 0,
            "oneHot": columns - inputs,
            "weight": weights.add(layer.weight, half),
            "bias": weights.add(_bias(layer)),
        }
        return [description], (layer.weight.shape[0],)
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and len(shape) != 3:
        raise InputError(f"{layer} follows {shape}: put an Unflatten before it")
    if isinstance(layer, nn.Conv2d):
        plain = (layer.stride, layer.padding, layer.dilation, layer.groups)
        if plain != ((1, 1), (0, 0), (1, 1), 1) or layer.kernel_size[0] != layer.kernel_size[1]:
            raise InputError(f"{layer}: the page knows square kernels of stride 1 without padding")
        channels, height, width = shape
        kernel = layer.kernel_size[0]
        description = {
            "type": "conv2d",
            "inputs": channels,
            "outputs": layer.out_channels,
            "kernel": kernel,
            "height": height,
            "width": width,
            "weight": weights.add(layer.weight, half),
            "bias": weights.add(_bias(layer)),
        }
        return [description], (layer.out_channels, height - kernel + 1, width - kernel + 1)
    if isinstance(layer, nn.MaxPool2d):
        if layer.stride != layer.kernel_size or layer.padding or not isinstance(layer.stride, int):
            raise InputError(f"{layer}: the page knows square blocks side by side")
        channels, height, width = shape
        size = layer.kernel_size
        description = {"type": "maxpool", "channels": channels, "size": size, "height": height,
                       "width": width}  # fmt: skip
        return [description], (channels, height // size, width // size)
    if isinstance(layer, nn.Flatten):
        return [], (int(np.prod(shape)),)
    if isinstance(layer, nn.Unflatten):
        return [], tuple(layer.unflattened_size)
    if isinstance(layer, nn.LeakyReLU):
        return [{"type": "leaky", "slope": layer.negative_slope}], shape
    if type(layer) in PLAIN:
        return [{"type": PLAIN[type(layer)]}], shape
    raise InputError(f"the page doesn't know the layer {type(layer).__name__}: it knows {KNOWN}")


def _bias(layer: nn.Module) -> Tensor:
    return layer.weight.new_zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias


def _prior(prior: nn.Module, weights: Weights) -> dict | None:
    """Return the maps of a learned prior; None for N(0, I)."""
    if isinstance(prior, StandardPrior):
        return None
    if not isinstance(prior, LearnedPrior):
        raise InputError(
            f"the page knows the priors N(0, I) and LearnedPrior, not {name_of(prior)}"
        )
    loc, log_scale = prior.affine.weight.chunk(2, -1)
    return {
        "classes": prior.affine.num_embeddings,
        "loc": weights.add(loc),
        "logScale": weights.add(log_scale),
        "maps": [_map(each.nn, weights) for each in prior.maps],
    }


def _map(network: nn.Module, weights: Weights) -> dict:
    """Return a masked network of one hidden layer, its masks multiplied in."""
    first, last = network.layers
    return {
        "order": network.permutation.tolist(),
        "hidden": first.out_features,
        "first": weights.add(torch.mul(first.weight, first.mask)),
        "firstBias": weights.add(first.bias),
        "last": weights.add(torch.mul(last.weight, last.mask)),
        "lastBias": weights.add(last.bias),
    }
