"""Rows of images: nothing of a figure is cut off."""

import pytest
import torch

from pyro_vae.analysis.plots import image_rows


@pytest.mark.parametrize("columns", [1, 2, 10])
def test_a_title_is_as_wide_as_its_figure_at_most(columns):
    title = "Four styles: one draw of N(0, I) for each row, y = eight, ..., three"
    figure = image_rows([torch.rand(columns, 1, 28, 28)] * 2, ["style 1", "style 2"], title)
    drawn = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
    box = figure._suptitle.get_window_extent(drawn)
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert figure.get_suptitle().split() == title.split()


def test_a_formula_is_not_broken():
    title = r"the mean image $E[x \mid z]$ of $z \sim N(0, I_4)$, drawn at random"
    figure = image_rows([torch.rand(1, 1, 28, 28)], [""], title)
    assert figure.get_suptitle() == title
