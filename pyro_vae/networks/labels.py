"""How the label of an image enters a network: one-hot, or by a layer of its own."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_vae.errors import check_counts, check_number, checked
from pyro_vae.networks.checks import check_labels


def concat_one_hot(inputs: Tensor, num_classes: int, *labels: Tensor) -> Tensor:
    """Append the one-hot labels of B images to `inputs`, `(*, B, n)`: `(*, B, n + num_classes)`.

    With `num_classes` = 0 there are no labels, and the inputs are returned as they are.
    """
    check_labels("this network", num_classes, inputs.shape[-2] if labels else 0, *labels)
    if not labels:
        return inputs
    one_hot = functional.one_hot(labels[0], num_classes).to(inputs)
    return torch.cat([inputs, one_hot.expand(*inputs.shape[:-1], num_classes)], -1)


def add_one_hot(outputs: Tensor, dense: nn.Linear, num_classes: int, *labels: Tensor) -> Tensor:
    """Add to a dense layer's `outputs`, `(*, B, n)`, what its last columns make of the labels.

    `outputs` is what its other columns make of their inputs. Together: the layer applied to both.
    """
    if not (num_classes or labels):
        return outputs
    one_hot = concat_one_hot(outputs[..., :0], num_classes, *labels)
    return outputs + functional.linear(one_hot, dense.weight[:, -num_classes:])


def select_by_label(weight: Tensor, y: Tensor) -> Tensor:
    """Return `weight[:, y]`, with a gradient whose bits are the same each time.

    The gradient of indexing is summed in a random order by the threads of a CPU; that of
    index_select, by the threads of a GPU.
    """
    return weight[:, y] if y.is_cuda else weight.index_select(1, y)


class LabelLinear(nn.Module):
    """A linear layer of its own for each label: `(*, B, inputs)` to `(*, B, outputs)`.

    All labels start from the same weights; only the biases differ, with a standard deviation of
    `bias_spread`.
    """

    @checked
    def __init__(self, inputs: int, outputs: int, num_classes: int, bias_spread: float = 0.0):
        super().__init__()
        check_counts(inputs=inputs, outputs=outputs, num_classes=num_classes)
        check_number("bias_spread", bias_spread, 0, 1e3)
        like = nn.Linear(inputs, outputs)
        self.num_classes = num_classes
        self.weight = nn.Parameter(like.weight.detach()[:, None].repeat(1, num_classes, 1))
        bias = like.bias.detach()[:, None] + bias_spread * torch.randn(outputs, num_classes)
        self.bias = nn.Parameter(bias)

    def forward(self, inputs: Tensor, *labels: Tensor) -> Tensor:
        """Apply to each image's inputs the weights of its label."""
        check_labels("this network", self.num_classes, inputs.shape[-2], *labels)
        (y,) = labels
        weight, bias = select_by_label(self.weight, y), select_by_label(self.bias, y)
        return torch.einsum("...bi,obi->...bo", inputs, weight) + bias.T
