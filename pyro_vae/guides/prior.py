"""The model's prior as a guide."""

import pyro
from torch import Tensor, nn

from pyro_vae.data.images import check_image_rows
from pyro_vae.errors import checked
from pyro_vae.guides.amortised import UsesModel
from pyro_vae.models import Model


class PriorGuide(UsesModel, nn.Module):
    """Propose from the model's prior, ignoring the image: the baseline for every guide.

    >>> from pyro_vae import PriorGuide, Vae, load_dataset, log_likelihood
    >>> model, x = Vae.build(2, architecture="dense").model, load_dataset("digits").test_images[:3]
    >>> log_likelihood(model, PriorGuide(model), x, num_samples=10).value.shape
    (3,)
    """

    @checked
    def __init__(self, model: Model):
        super().__init__()
        self.use(model)

    def forward(self, x: Tensor, *labels: Tensor) -> None:
        """Sample "z" of each image from the prior, in the plate "data"."""
        check_image_rows(x)
        prior = self.model.prior(x, *labels)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", prior)
