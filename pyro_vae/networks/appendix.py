"""The appendix's networks, layer for layer, and PyTorch's example's, as plain PyTorch modules.

The names in a state dict are the appendix's: `f.N.*` in the decoder, `g.N.*` in the encoder, so
that weights can be exchanged with it (`split_appendix`, `join_appendix`). Two things differ, and
neither changes the mathematics: the decoder ends in logits, not in probabilities, because
log(sigmoid(.)) is -inf at a saturated pixel where the likelihood computed from the logit is finite;
and both accept any leading dimensions, so that K samples of B images pass as `(K, B, ...)`.

With `num_classes` > 0 both also take the labels `y`, shape `(B,)`, of the images: one-hot, they
enter beside the inputs of the first fully connected layer. With `num_classes` = 0 nothing is added.
One-hot labels only move that layer's biases; `LabelDecoder` and `LabelEncoder` give each label a
layer of its own instead.

A decoder names as `encoder` the network of its own make that goes the other way: a guide asks for
it (`pyro_vae.guides.Amortised`). `ARCHITECTURES` has the decoders by name.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_vae.errors import InputError, check_counts, checked
from pyro_vae.networks.checks import check_latent_dim, check_latents, check_pixels
from pyro_vae.networks.labels import concat_one_hot
from pyro_vae.networks.precision import channels_last, resolve_precision, without_tf32


class Encoder(nn.Module):
    """Image `x`, shape `(*, 1, 28, 28)`, to the numbers `(*, num_params)` that a guide is made of.

    The appendix has 2 d of them: the locations of q(z | x), and the logarithms of its variances.

    The two convolutions take most of the time of a training step; they and the first fully
    connected layer may run in bfloat16: an encoder rounded in this way is still a function of x, so
    that it gives a guide that is sampled and scored as one and the same distribution, and the ELBO
    stays a lower bound of log p(x). The decoder, which is the model, is never rounded.
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
        """The numbers of each image, `(*, num_params)`; InputError for wrong images or labels."""
        return self.g[7](self.features(x, *labels))

    def features(self, x: Tensor, *labels: Tensor) -> Tensor:
        """What the last layer is given, `(*, 128)`."""
        check_pixels(x, self.g[0].weight)
        batch, first = x.shape[:-3], self.g[5]
        images = channels_last(x.reshape(-1, 1, 28, 28))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            maps = self.g[:4](images)
            # taken as they lie in memory, channels last, and the weights brought into that order:
            # to bring the maps into theirs, and the gradient back, costs ten times as much
            weight = first.weight[:, :9216].unflatten(1, (64, 144)).transpose(1, 2).flatten(1)
            hidden = functional.linear(maps.permute(0, 2, 3, 1).flatten(1), weight, first.bias)
        hidden = hidden.to(x.dtype).reshape(*batch, -1)
        if self.num_classes or labels:
            y = concat_one_hot(hidden[..., :0], self.num_classes, *labels)
            hidden = hidden + functional.linear(y, first.weight[:, 9216:])
        return self.g[6](hidden)


class Decoder(nn.Module):
    """Latent `z`, shape `(*, d)`, to the logits of Bernoulli pixels, shape `(*, 1, 28, 28)`."""

    encoder = Encoder

    @checked
    def __init__(self, latent_dim: int = 4, num_classes: int = 0):
        super().__init__()
        check_counts(0, num_classes=num_classes)
        self.latent_dim, self.num_classes = check_latent_dim(latent_dim), num_classes
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
        """The logits of each latent, `(*, 1, 28, 28)`; InputError for wrong latents or labels."""
        check_latents(z, self.latent_dim, next(self.parameters()))
        return self.image(self.f[0](concat_one_hot(z, self.num_classes, *labels)))

    def image(self, first: Tensor) -> Tensor:
        """The logits from what the first layer gives, `(*, 128)`."""
        with without_tf32(first):
            planes = self.f[1:9](first.reshape(-1, 128))
            if torch.is_grad_enabled():
                logits = self.f[9:](channels_last(planes))
            else:  # faster forwards, slower backwards
                logits = self.in_blocks(planes)
        return logits.reshape(*first.shape[:-1], 1, 28, 28)

    def in_blocks(self, planes: Tensor) -> Tensor:
        """The last layers, `f[9:]`, for all four pixels of each block of 2 x 2 at once.

        A convolution from 4 to 4 channels leaves most of a vector unit idle. The pixels of a block
        see 4 x 4 pixels of the planes, so that a convolution of that size in steps of 2 gives the
        block's pixels as so many more channels: the same sums, to rounding, in another order.
        """
        convolution, activation, mix = self.f[9:]
        # the kernel of pixel (i, j) of a block lies i rows down and j columns right
        kernels = [
            functional.pad(convolution.weight, (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1)
        ]
        # never rounded: for so few channels bfloat16 is the slower
        with torch.autocast(planes.device.type, enabled=False):
            blocks = functional.conv2d(
                planes.to(mix.weight),
                torch.stack(kernels, 1).flatten(0, 1),
                convolution.bias.repeat_interleave(4),
                stride=2,
            )  # (B, 4 * 4, 14, 14)
            channels = activation(blocks).view(-1, 4, 4 * 14 * 14)
            # detached: for a weight that asks for a gradient matmul first copies all channels
            logits = torch.matmul(mix.weight.detach().flatten(), channels)
        logits = logits.view(-1, 2, 2, 14, 14)
        image = torch.empty_like(logits).view(-1, 14, 2, 14, 2)
        for i in (0, 1):
            for j in (0, 1):
                torch.add(logits[:, i, j], mix.bias, out=image[:, :, i, :, j])
        return image.view(-1, 1, 28, 28)


State = dict[str, Tensor]


@checked
def split_appendix(state: State) -> tuple[State, State]:
    """A state dict of the appendix's `GaussianEncoder` as (decoder, encoder) state dicts of ours.

    The appendix's encoder holds its generator as `f`, so that its state dict has both.
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
    """The inverse of `split_appendix`: loads into the appendix's `GaussianEncoder`."""
    return {f"f.{name}": w for name, w in decoder.items()} | encoder
