"""A published table reproduced: log p(x) of binarised MNIST, by Burda et al.'s networks.

Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, table 1, one stochastic
layer. Nothing in the package knows these networks: they are a Pyro program like any user's.
"""

from typing import NamedTuple

SEED = 9  # of everything drawn for the table; the trainings have their own


class Cell(NamedTuple):
    """One trained model of the table."""

    particles: int  # k of the bound that it is trained by: 1 is the ELBO
    published: float  # log p(x), nats an image, by 5,000 samples, after 3,280 epochs
    epochs: int  # here, unless asked otherwise


CELLS = {
    "VAE": Cell(1, -86.76, 1000),
    "IWAE-5": Cell(5, -85.54, 1000),
    "IWAE-50": Cell(50, -84.78, 200),
}
EPOCHS_PUBLISHED = 3280
NUM_SAMPLES = 5000  # of the published estimator
