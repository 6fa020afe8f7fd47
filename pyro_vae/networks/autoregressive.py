"""Pyro's autoregressive networks, in the dtype of their weights whatever torch's default is."""

from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn


def autoregressive(
    latent_dim: int, context: int, hidden: int, order: Tensor, param_dims: tuple[int, ...] = (1, 1)
) -> ConditionalAutoRegressiveNN:
    """Return a masked network of one hidden layer: from R^d and `context` inputs to parameters.

    Those of coordinate order[i] see the coordinates before it. There are sum(param_dims) for each.
    """
    network = ConditionalAutoRegressiveNN(
        latent_dim, context, [hidden], param_dims=list(param_dims), permutation=order
    )
    # Pyro keeps them beside the layers, and uses them no more: alike in all networks of this shape
    network.masks = [mask.float() for mask in network.masks]
    network.mask_skip = network.mask_skip.float()
    network.register_forward_pre_hook(_in_dtype_of_weights, with_kwargs=True)
    return network


def _in_dtype_of_weights(network: nn.Module, args: tuple, options: dict) -> tuple[tuple, dict]:
    """Convert the input: to invert a map, Pyro starts from zeros of torch's default dtype."""
    x, *others = args
    return (x.to(network.layers[0].weight.dtype), *others), options
