"""The model's prior as a guide."""

import pyro
from torch import Tensor, nn

from pyro_vae.data import check_images
from pyro_vae.errors import checked
from pyro_vae.models import Model


class PriorGuide(nn.Module):
    """The model's prior, blind to the image: what a guide is worth is measured from here."""

    @checked
    def __init__(self, model: Model):
        super().__init__()
        self.target = (model,)  # in a tuple: the model's parameters are not the guide's

    def forward(self, x: Tensor, *labels: Tensor) -> None:
        """Sample "z" of each image, from the prior, in the plate "data"."""
        check_images(x)
        prior = self.target[0].prior(x, *labels)
        with pyro.plate("data", len(x)):
            pyro.sample("z", prior)
