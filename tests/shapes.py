"""Images `(1, 1, 28, 28)` of drawn shapes whose features are known."""

import torch


def blank():
    return torch.zeros(1, 1, 28, 28)


def bar(top=4, bottom=24, left=13, right=15):
    """A white bar: rows top to bottom, columns left to right, the ends not included."""
    x = blank()
    x[..., top:bottom, left:right] = 1
    return x


def ring(outer=9.0, inner=6.0):
    row, column = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    radius = torch.hypot(row - 13.5, column - 13.5)
    return ((radius <= outer) & (radius >= inner)).float()[None, None]
