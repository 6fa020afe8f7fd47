"""Layers that see the label of an image."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_vae.errors import check_counts, check_number, checked
from pyro_vae.networks.checks import check_labels


def concat_one_hot(inputs: Tensor, num_classes: int, *labels: Tensor) -> Tensor:
    """`inputs`, `(*, B, n)`, with the one-hot labels of the B images: `(*, B, n + classes)`."""
    check_labels("this network", num_classes, inputs.shape[-2] if labels else 0, *labels)
    if not labels:
        return inputs
    one_hot = functional.one_hot(labels[0], num_classes).to(inputs)
    return torch.cat([inputs, one_hot.expand(*inputs.shape[:-1], num_classes)], -1)


def select_by_label(weight: Tensor, y: Tensor) -> Tensor:
    """`weight[:, y]`, whose gradient has the same bits each time.

    That of the indexing is added up in an order of chance by the threads of a processor, and that
    of index_select by those of a GPU.
    """
    return weight[:, y] if y.is_cuda else weight.index_select(1, y)


class LabelLinear(nn.Module):
    """A linear layer of its own for each label: `(*, B, inputs)` to `(*, B, outputs)`.

    The weights start alike, so that an input means the same for every label until training has
    reasons to tell them apart; the biases start `bias_spread` from one another.
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
        """The outputs of each image, by the weights of its label."""
        check_labels("this network", self.num_classes, inputs.shape[-2], *labels)
        (y,) = labels
        weight, bias = select_by_label(self.weight, y), select_by_label(self.bias, y)
        return torch.einsum("...bi,obi->...bo", inputs, weight) + bias.T
