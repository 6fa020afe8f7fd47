"""The appendix's networks, layer for layer, and PyTorch's example's, as plain PyTorch modules.

The names in a state dict are the appendix's: `f.N.*` in the decoder, `g.N.*` in the encoder, so
that weights can be exchanged with it (`split_appendix`, `join_appendix`). Two things differ, and
neither changes the mathematics: the decoder ends in logits, not in probabilities, because
log(sigmoid(.)) is -inf at a saturated pixel where the likelihood computed from the logit is finite;
and both accept any leading dimensions, so that K samples of B images pass as `(K, B, ...)`.

With `classes` > 0 both also take the labels `y`, shape `(B,)`, of the images: one-hot, they enter
beside the inputs of the first fully connected layer. With `classes` = 0 nothing is added. One-hot
labels only move that layer's biases; `LabelDecoder` and `LabelEncoder` give each label a layer of
its own instead.

A decoder names as `encoder` the network of its own make that goes the other way: a guide asks for
it (`pyro_vae.guides.Amortised`). `ARCHITECTURES` has the decoders by name.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_vae.data import check_images
from pyro_vae.errors import InputError, check_counts, check_number, checked, kind


class Encoder(nn.Module):
    """Image `x`, shape `(*, 1, 28, 28)`, to the numbers `(*, outputs)` that a guide is made of.

    The appendix has 2 d of them: the locations of q(z | x), and the logarithms of its variances.

    The two convolutions take most of the time of a training step; they and the first fully
    connected layer may run in bfloat16: an encoder rounded in this way is still a function of x, so
    that it gives a guide that is sampled and scored as one and the same distribution, and the ELBO
    stays a lower bound of log p(x). The decoder, which is the model, is never rounded.
    """

    @checked
    def __init__(self, outputs: int, precision: str = "float32", classes: int = 0):
        super().__init__()
        check_counts(outputs=outputs)
        check_counts(0, classes=classes)
        self.precision, self.classes = resolve_precision(precision), classes
        self.g = nn.Sequential(
            nn.Conv2d(1, 32, 3),  # (B, 32, 26, 26)
            nn.LeakyReLU(),
            nn.Conv2d(32, 64, 3),  # (B, 64, 24, 24)
            nn.MaxPool2d(2),  # (B, 64, 12, 12)
            nn.Flatten(1),  # (B, 9216)
            nn.Linear(9216 + classes, 128),
            nn.LeakyReLU(),
            nn.Linear(128, outputs),
        )

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """The numbers of each image, `(*, outputs)`; InputError for wrong images or labels."""
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
        if self.classes or labels:
            y = beside(hidden[..., :0], self.classes, *labels)
            hidden = hidden + functional.linear(y, first.weight[:, 9216:])
        return self.g[6](hidden)


class Decoder(nn.Module):
    """Latent `z`, shape `(*, d)`, to the logits of Bernoulli pixels, shape `(*, 1, 28, 28)`."""

    encoder = Encoder

    @checked
    def __init__(self, latent_dim: int = 4, classes: int = 0):
        super().__init__()
        check_counts(0, classes=classes)
        self.latent_dim, self.classes = check_latent_dim(latent_dim), classes
        self.f = nn.Sequential(
            nn.Linear(latent_dim + classes, 128),
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
        return self.image(self.f[0](beside(z, self.classes, *labels)))

    def image(self, first: Tensor) -> Tensor:
        """The logits from what the first layer gives, `(*, 128)`."""
        with unrounded(first):
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


class PerLabel(nn.Module):
    """A linear layer of its own for each label: `(*, B, inputs)` to `(*, B, outputs)`.

    The weights start alike, so that an input means the same for every label until training has
    reasons to tell them apart; the biases start `apart` from one another.
    """

    @checked
    def __init__(self, inputs: int, outputs: int, classes: int, apart: float = 0.0):
        super().__init__()
        check_counts(inputs=inputs, outputs=outputs, classes=classes)
        check_number("apart", apart, 0, 1e3)
        like = nn.Linear(inputs, outputs)
        self.classes = classes
        self.weight = nn.Parameter(like.weight.detach()[:, None].repeat(1, classes, 1))
        bias = like.bias.detach()[:, None] + apart * torch.randn(outputs, classes)
        self.bias = nn.Parameter(bias)

    def forward(self, inputs: Tensor, *labels: Tensor) -> Tensor:
        """The outputs of each image, by the weights of its label."""
        check_labels("this network", self.classes, inputs.shape[-2], *labels)
        (y,) = labels
        weight, bias = of_labels(self.weight, y), of_labels(self.bias, y)
        return torch.einsum("...bi,obi->...bo", inputs, weight) + bias.T


def of_labels(weight: Tensor, y: Tensor) -> Tensor:
    """`weight[:, y]`, whose gradient has the same bits each time.

    That of the indexing is added up in an order of chance by the threads of a processor, and that
    of index_select by those of a GPU.
    """
    return weight[:, y] if y.is_cuda else weight.index_select(1, y)


class LabelEncoder(Encoder):
    """As `Encoder`, with a last layer for each label."""

    @checked
    def __init__(self, outputs: int, precision: str = "float32", classes: int = 10):
        super().__init__(outputs, precision, classes)
        self.g[7] = PerLabel(128, outputs, classes)

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """The numbers of each image, `(*, outputs)`; InputError for wrong images or labels."""
        return self.g[7](self.features(x, *labels), *labels)


class LabelDecoder(Decoder):
    """As `Decoder`, with a first layer for each label: each draws its digit from z in its own way.

    The biases start as far apart as a coordinate of z would move them, so that training meets
    labels that differ, and need not tell them apart by z.
    """

    encoder = LabelEncoder

    @checked
    def __init__(self, latent_dim: int = 4, classes: int = 10):
        super().__init__(latent_dim, classes)
        self.f[0] = PerLabel(latent_dim, 128, classes, apart=0.5)

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """The logits of each latent, `(*, 1, 28, 28)`; InputError for wrong latents or labels."""
        check_latents(z, self.latent_dim, next(self.parameters()))
        return self.image(self.f[0](z, *labels))


class DenseEncoder(nn.Module):
    """As `Encoder`, but fully connected: one hidden layer, as in PyTorch's example autoencoder."""

    @checked
    def __init__(
        self, outputs: int, precision: str = "float32", classes: int = 0, hidden: int = 400
    ):
        super().__init__()
        check_counts(outputs=outputs, hidden=hidden)
        check_counts(0, classes=classes)
        self.precision, self.classes = resolve_precision(precision), classes
        self.g = nn.Sequential(
            nn.Linear(28 * 28 + classes, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """The numbers of each image, `(*, outputs)`; InputError for wrong images or labels."""
        check_pixels(x, self.g[0].weight)
        pixels = beside(x.flatten(-3), self.classes, *labels)
        rounded = self.precision == "bfloat16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=rounded):
            hidden = self.g[:2](pixels)
        return self.g[2](hidden.float() if rounded else hidden)


class DenseDecoder(nn.Module):
    """As `Decoder`, but fully connected: PyTorch's example autoencoder at `latent_dim` = 20.

    https://github.com/pytorch/examples/tree/main/vae (784-400-20-400-784, ReLU)
    """

    encoder = DenseEncoder

    @checked
    def __init__(self, latent_dim: int = 20, classes: int = 0, hidden: int = 400):
        super().__init__()
        check_counts(hidden=hidden)
        check_counts(0, classes=classes)
        self.latent_dim, self.classes = check_latent_dim(latent_dim), classes
        self.f = nn.Sequential(
            nn.Linear(latent_dim + classes, hidden), nn.ReLU(), nn.Linear(hidden, 28 * 28)
        )

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """The logits of each latent, `(*, 1, 28, 28)`; InputError for wrong latents or labels."""
        check_latents(z, self.latent_dim, next(self.parameters()))
        return self.f(beside(z, self.classes, *labels)).unflatten(-1, (1, 28, 28))


ARCHITECTURES = {"appendix": Decoder, "per_label": LabelDecoder, "dense": DenseDecoder}


def beside(inputs: Tensor, classes: int, *labels: Tensor) -> Tensor:
    """`inputs`, `(*, B, n)`, with the one-hot labels of the B images: `(*, B, n + classes)`."""
    check_labels("this network", classes, inputs.shape[-2] if labels else 0, *labels)
    if not labels:
        return inputs
    one_hot = functional.one_hot(labels[0], classes).to(inputs)
    return torch.cat([inputs, one_hot.expand(*inputs.shape[:-1], classes)], -1)


def check_pixels(x: Tensor, weight: Tensor) -> None:
    """Raise InputError unless `x`, `(*, 1, 28, 28)`, holds images of the same type as `weight`."""
    deep = isinstance(x, Tensor) and x.dim() >= 3
    check_images(x.reshape(-1, *x.shape[-3:]) if deep else x)
    if x.dtype != weight.dtype:
        raise InputError(
            f"images are {kind(x)} and the weights {kind(weight)}: convert one of them"
        )


def check_latents(z: Tensor, latent_dim: int, weight: Tensor) -> None:
    """Raise InputError unless `z` has `latent_dim` dimensions, and the same type as `weight`."""
    if not isinstance(z, Tensor) or not z.is_floating_point():
        raise InputError(f"z must be a float tensor (*, {latent_dim}), not {kind(z)}")
    if z.dim() == 0 or z.shape[-1] != latent_dim:
        raise InputError(f"z must have shape (*, {latent_dim}), not {tuple(z.shape)}")
    if z.dtype != weight.dtype:
        raise InputError(
            f"z is {kind(z)} and the weights {kind(weight)}: convert one of them, or the images"
        )


def check_labels(taker: str, classes: int, images: int, *labels: Tensor) -> None:
    """Raise InputError unless `labels` is what `taker` takes: a y of `classes` classes, or none."""
    if len(labels) != (classes > 0):
        wanted = f"labels y of {classes} classes" if classes else "no labels"
        raise InputError(f"{taker} takes {wanted}, and was given {len(labels)} more arguments")
    for y in labels:
        if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != (images,):
            raise InputError(
                f"y must be one int64 label for each of {images} images, not {kind(y)}"
            )
        if y.min() < 0 or y.max() >= classes:
            raise InputError(f"y must hold labels from 0 to {classes - 1}")


def unrounded(like: Tensor) -> AbstractContextManager:
    """Where convolutions of float32 tensors such as `like` keep all their digits.

    On a GPU torch rounds their inputs to the 10 bits of TF32 unless it is told not to. A backward
    pass outside of this block is rounded: the gradients of training are.
    """
    if not like.is_cuda:
        return nullcontext()
    now = torch.backends.cudnn
    return now.flags(now.enabled, now.benchmark, now.benchmark_limit, now.deterministic, False)


def channels_last(x: Tensor) -> Tensor:
    """`x`, shape `(B, C, H, W)`, in the memory layout in which the CPU convolves fastest.

    The values are the same. Tensor.contiguous would return an `x` of one channel as it is, since
    both layouts then agree, and the convolution would go on in the slower one. The weights keep the
    usual layout: Pyro's parameter store copies those of any other, and trains the copy.
    """
    return torch.empty_like(x, memory_format=torch.channels_last).copy_(x)


def check_latent_dim(latent_dim: int) -> int:
    """`latent_dim` itself, if it is a whole number >= 1; else an `InputError`."""
    check_counts(latent_dim=latent_dim)
    return latent_dim


@checked
def resolve_precision(precision: str, device: str = "cpu") -> str:
    """ "float32" and "bfloat16" as they are; "auto": bfloat16 where it is multiplied natively.

    Without such units bfloat16 is emulated and slower, so that "auto" is then float32.
    """
    if precision == "auto":
        if device.startswith("cuda"):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            # AVX512-BF16 (recent AMD and Intel) or AMX (Intel server); absent from older torch
            features = getattr(torch.cpu, "get_capabilities", dict)()
            native = features.get("avx512_bf16") or features.get("amx_bf16")
        return "bfloat16" if native else "float32"
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"precision must be 'auto', 'float32' or 'bfloat16', not {precision!r}")
    return precision


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
