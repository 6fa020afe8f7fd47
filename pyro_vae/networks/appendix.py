"""The appendix's networks, layer for layer.

State dicts have the appendix's names, `f.N.*` in the decoder and `g.N.*` in the encoder, so weights
can be exchanged with it: `split_appendix`, `join_appendix`. Two things differ, and neither changes
the mathematics. The decoder ends in logits, not in probabilities: log(sigmoid(l)) is -inf at a
saturated pixel, while the likelihood computed from the logit is finite. And both networks accept
any leading dimensions: K samples of B images pass as `(K, B, ...)`.

With `num_classes` > 0 both also take the labels `y`, `(B,)`, of the images: one-hot, they are
further inputs of the first dense layer. That only moves the layer's biases; `LabelDecoder` and
`LabelEncoder` have one layer for each label instead.

How the layers are computed fast is in `pyro_vae.networks.precision`.
"""

from torch import Tensor, nn

from pyro_vae.errors import InputError, check_counts, checked
from pyro_vae.networks.checks import check_latents, check_pixels
from pyro_vae.networks.labels import add_one_hot, concat_one_hot
from pyro_vae.networks.precision import (
    autocast,
    channels_last,
    flat_linear,
    last_layers,
    resolve_precision,
    without_tf32,
)


class Encoder(nn.Module):
    """Map images `x`, `(*, 1, 28, 28)`, to the parameters of q(z | x), `(*, num_params)`.

    The appendix has 2 d of them: the means of a Gaussian, then the logs of its variances.

    With `precision` "bfloat16" the convolutions and the first dense layer, which take most of the
    time of a training step, are rounded. A rounded encoder is still a function of x: its guide is
    sampled and scored as the same distribution, so the ELBO remains a lower bound of log p(x). The
    decoder is never rounded, because it is the model.

    >>> import torch
    >>> from pyro_vae import Encoder
    >>> Encoder(num_params=8)(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 8])
    """

    @checked
    def __init__(self, num_params: int, precision: str = "float32", num_classes: int = 0):
        super().__init__()
        check_counts(num_params=num_params)
        check_counts(0, num_classes=num_classes)
        self.precision, self.num_classes = resolve_precision(precision), num_classes
        self.g = nn.Sequential(
            nn.Conv2d(1, 32, 3),  # (B, 32, 26, 26)
            nn.LeakyReLU(),
            nn.Conv2d(32, 64, 3),  # (B, 64, 24, 24)
            nn.MaxPool2d(2),  # (B, 64, 12, 12)
            nn.Flatten(1),  # (B, 9216)
            nn.Linear(9216 + num_classes, 128),
            nn.LeakyReLU(),
            nn.Linear(128, num_params),
        )

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """Return the parameters of q, `(*, num_params)`; InputError for wrong images or labels."""
        return self.g[7](self.features(x, *labels))

    def features(self, x: Tensor, *labels: Tensor) -> Tensor:
        """Return the inputs of the last layer, `(*, 128)`."""
        check_pixels(x, self.g[0].weight)
        with autocast(self.precision, x):
            maps = self.g[:4](channels_last(x.reshape(-1, 1, 28, 28)))
            hidden = flat_linear(maps, self.g[5])
        hidden = hidden.to(x.dtype).reshape(*x.shape[:-3], -1)
        return self.g[6](add_one_hot(hidden, self.g[5], self.num_classes, *labels))


class Decoder(nn.Module):
    """Map latents `z`, `(*, d)`, to the logits of Bernoulli pixels, `(*, 1, 28, 28)`.

    As every decoder class, it names its matching encoder class as `encoder`.

    >>> import torch
    >>> from pyro_vae import Decoder
    >>> Decoder(latent_dim=4)(torch.zeros(5, 3, 4)).shape
    torch.Size([5, 3, 1, 28, 28])
    """

    encoder = Encoder

    @checked
    def __init__(self, latent_dim: int = 4, num_classes: int = 0):
        super().__init__()
        check_counts(latent_dim=latent_dim)
        check_counts(0, num_classes=num_classes)
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.f = nn.Sequential(
            nn.Linear(latent_dim + num_classes, 128),
            nn.LeakyReLU(),
            nn.Linear(128, 1728),
            nn.LeakyReLU(inplace=True),
            nn.Unflatten(1, (12, 12, 12)),  # (B, 12, 12, 12)
            nn.Conv2d(12, 36, 3),  # (B, 36, 10, 10)
            nn.LeakyReLU(inplace=True),
            nn.Flatten(1),  # (B, 3600)
            nn.Unflatten(1, (4, 30, 30)),  # (B, 4, 30, 30)
            nn.Conv2d(4, 4, 3),  # (B, 4, 28, 28)
            nn.LeakyReLU(inplace=True),
            nn.Conv2d(4, 1, 1),  # (B, 1, 28, 28)
        )

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Return the logits, `(*, 1, 28, 28)`; InputError for wrong latents or labels."""
        check_latents(z, self.latent_dim, next(self.parameters()))
        return self.image(self.f[0](concat_one_hot(z, self.num_classes, *labels)))

    def image(self, hidden: Tensor) -> Tensor:
        """Return the logits from the outputs of the first layer, `(*, 128)`."""
        with without_tf32(hidden):
            planes = self.f[1:9](hidden.reshape(-1, 128))
            logits = last_layers(self.f[9:], planes)
        return logits.reshape(*hidden.shape[:-1], 1, 28, 28)


State = dict[str, Tensor]


@checked
def split_appendix(state: State) -> tuple[State, State]:
    """Split a state dict of the appendix's `GaussianEncoder` into our (decoder, encoder).

    The appendix's encoder holds its generator as `f`, so its state dict has the weights of both.
    """
    decoder = {name.removeprefix("f."): w for name, w in state.items() if name.startswith("f.f.")}
    encoder = {name: w for name, w in state.items() if name.startswith("g.")}
    if not decoder or not encoder:
        raise InputError(
            "state must be the state dict of the appendix's GaussianEncoder, names f.f.* and g.*, "
            f"not of {list(state)[:3]}"
        )
    return decoder, encoder


@checked
def join_appendix(decoder: State, encoder: State) -> State:
    """Join our state dicts into one for the appendix's `GaussianEncoder`: undo `split_appendix`."""
    return {f"f.{name}": w for name, w in decoder.items()} | encoder
