"""The networks of the published table, one stochastic layer, as a Pyro program.

    generator  z (50) - 200 - 200 - 784 logits of black and white pixels
    encoder    x (784) - 200 - 200 - mean and log scale of q(z | x), 50 each

with tanh between the layers (Burda et al. 2016, section 5.1).
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.models import GreyBernoulli

PIXELS, HIDDEN, LATENT = 784, 200, 50


class Published(nn.Module):
    """Model and guide of images `(B, 784)`, black and white.

    Weights are Xavier's, as in the paper. The output's biases are the logits of the pixels'
    `means`, `(784,)`, so that the untrained model draws the mean image.
    """

    def __init__(self, means: Tensor):
        super().__init__()
        self.decoder = _layers(LATENT, PIXELS)
        self.encoder = _layers(PIXELS, 2 * LATENT)
        with torch.no_grad():
            self.decoder[-1].bias.copy_(means.clamp(1e-3, 1 - 1e-3).logit())

    def model(self, x: Tensor) -> None:
        """z ~ N(0, I), x | z ~ Bernoulli(sigmoid(decoder(z)))."""
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(LATENT), 1).to_event(1))
            # for black and white pixels it is dist.Bernoulli; a step of IWAE-50 is a sixth shorter
            pyro.sample("x", GreyBernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """q(z | x) = N(loc, diag(scale^2)), both by the encoder."""
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def _layers(inputs: int, outputs: int) -> nn.Sequential:
    sizes = [(inputs, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, outputs)]
    linear = [nn.Linear(*size) for size in sizes]
    for layer in linear:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(linear[0], nn.Tanh(), linear[1], nn.Tanh(), linear[2])
