import copy
import math

import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch.nn import functional

from experiments.appendix import BernoulliImageGenerator, GaussianEncoder
from pyro_vae.errors import InputError
from pyro_vae.likelihood.importance import log_joint_in_chunks
from pyro_vae.models import Model
from pyro_vae.networks import ARCHITECTURES
from pyro_vae.networks.appendix import Decoder, Encoder, join_appendix, split_appendix
from pyro_vae.networks.dense import DenseDecoder
from pyro_vae.networks.labelled import LabelEncoder
from pyro_vae.networks.labels import LabelLinear
from pyro_vae.networks.precision import channels_last, in_blocks, resolve_precision
from tests.autoencoders import build_vae


def appendix(latent_dim):
    """The appendix's autoencoder after a few steps of its own training."""
    encoder = GaussianEncoder(BernoulliImageGenerator(latent_dim))
    optimiser = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    for _ in range(20):
        x = torch.rand(16, 1, 28, 28).round()
        optimiser.zero_grad()
        (-encoder.loglik_lb(x).mean()).backward()
        optimiser.step()
    return encoder


def appendix_log_joint(encoder, x, z):
    """log p(x, z) with the appendix's own likelihood, and the closed form of log N(z; 0, I)."""
    prior = -0.5 * (z**2).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)
    return encoder.f.loglik(x, z) + prior


@pytest.mark.parametrize("latent_dim", [4, 20])
def test_weights_trained_in_the_appendix_give_the_same_log_joint_here(latent_dim):
    theirs = appendix(latent_dim)
    model, guide = build_vae(latent_dim)
    decoder, encoder = split_appendix(theirs.state_dict())
    model.decoder.load_state_dict(decoder)
    guide.encoder.load_state_dict(encoder)
    x, z = torch.rand(8, 1, 28, 28), torch.randn(8, latent_dim)
    ours = log_joint_in_chunks(model, [x], {"z": z[None]})[0]
    torch.testing.assert_close(
        ours, appendix_log_joint(theirs, x, z).double(), atol=1e-3, rtol=2e-6
    )
    # in double precision nothing is left of the difference
    ours = log_joint_in_chunks(model.double(), [x.double()], {"z": z[None].double()})[0]
    theirs.double()
    expected = appendix_log_joint(theirs, x.double(), z.double())
    torch.testing.assert_close(ours, expected, atol=1e-9, rtol=0)
    q = guide.double().q(x.double())
    for a, b in zip((q.mean, q.variance.sqrt()), theirs(x.double()), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("latent_dim", [4, 20])
def test_weights_from_here_load_into_the_appendix(latent_dim):
    model, guide = build_vae(latent_dim)
    theirs = GaussianEncoder(BernoulliImageGenerator(latent_dim))
    theirs.load_state_dict(
        join_appendix(model.decoder.state_dict(), guide.encoder.state_dict()), strict=True
    )
    x, z = torch.rand(8, 1, 28, 28), torch.randn(8, latent_dim)
    expected = appendix_log_joint(theirs, x, z).double()
    ours = log_joint_in_chunks(model, [x], {"z": z[None]})[0]
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_the_autoencoders_of_record_load_into_the_appendix(record, digits):
    """Trained weights from here: the same log p(x, z) there to 1e-4, in float64 to 1e-9."""
    model, guide, config = record
    d = config["latent_dim"]
    theirs = GaussianEncoder(BernoulliImageGenerator(d))
    theirs.load_state_dict(join_appendix(model.decoder.state_dict(), guide.encoder.state_dict()))
    x = digits.test_images[:8].clone()
    with torch.no_grad():
        z = guide.q(x).mean
        ours = log_joint_in_chunks(model, [x], {"z": z[None]})[0]
        expected = appendix_log_joint(theirs, x, z).double()
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-6)
        exact = Model(copy.deepcopy(model.decoder).double())
        ours = log_joint_in_chunks(exact, [x.double()], {"z": z[None].double()})[0]
        expected = appendix_log_joint(theirs.double(), x.double(), z.double())
    torch.testing.assert_close(ours, expected, atol=1e-9, rtol=0)


def test_elbo_agrees_with_the_appendix():
    """Trace_ELBO samples the KL term that the appendix has in closed form: equal in expectation.

    5 standard errors of the difference of two means of 100 draws: fails once in 1.7 million seeds.
    """
    theirs = appendix(4)
    model, guide = build_vae(4)
    decoder, encoder = split_appendix(theirs.state_dict())
    model.decoder.load_state_dict(decoder)
    guide.encoder.load_state_dict(encoder)
    x = torch.rand(4, 1, 28, 28)
    elbo = Trace_ELBO()
    with torch.no_grad():
        ours = torch.tensor([-elbo.loss(model, guide, x) for _ in range(100)])
        appendices = torch.stack([theirs.loglik_lb(x).sum() for _ in range(100)])
    se = (ours.var() / 100 + appendices.var() / 100).sqrt()
    assert abs(ours.mean() - appendices.mean()) < 5 * se
    assert se < 3  # the tolerance is small beside the ELBO's size, of hundreds of nats


def test_the_elbo_with_the_kl_in_closed_form_is_the_appendixs():
    """With the same noise the bound and all its gradients are the same, in float64."""
    theirs = appendix(4).double()
    model, guide = build_vae(4)
    decoder, encoder = split_appendix(theirs.state_dict())
    model.double().decoder.load_state_dict(decoder)
    guide.double().encoder.load_state_dict(encoder)
    x = torch.rand(4, 1, 28, 28, dtype=torch.float64)
    theirs.zero_grad()
    torch.manual_seed(0)
    expected = theirs.loglik_lb(x).sum()
    expected.backward()
    torch.manual_seed(0)
    loss = TraceMeanField_ELBO().differentiable_loss(model, guide, x)
    loss.backward()
    torch.testing.assert_close(-loss, expected)
    gradients = split_appendix({name: w.grad for name, w in theirs.named_parameters()})
    for part, network in zip(gradients, (model.decoder, guide.encoder), strict=True):
        for name, w in network.named_parameters():
            torch.testing.assert_close(-w.grad, part[name])


def test_a_saturated_pixel_has_a_finite_likelihood():
    """The appendix's log(sigmoid) is not finite there; the one from logits is, and is right."""
    model, _ = build_vae(4)
    theirs = BernoulliImageGenerator(4)
    with torch.no_grad():
        model.decoder.f[11].bias.fill_(200.0)
    theirs.load_state_dict(model.decoder.state_dict())
    x, z = torch.zeros(1, 1, 28, 28), torch.zeros(1, 4)
    assert not theirs.loglik(x, z).isfinite().all()
    ours = log_joint_in_chunks(model, [x], {"z": z[None]})
    logits = model.decoder(z).double()
    prior = -2 * math.log(2 * math.pi)
    expected = -functional.softplus(logits).sum() + prior
    torch.testing.assert_close(ours[0, 0], expected.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("architecture", ["appendix", "per_label"])
def test_the_last_layers_in_blocks_are_the_layers_themselves(architecture):
    """Without gradients the decoder takes another way to the same logits: in float64, the same."""
    decoder = ARCHITECTURES[architecture](3, num_classes=10).double()
    z, y = torch.randn(5, 7, 3, dtype=torch.float64), torch.arange(7)
    layer_by_layer = decoder(z, y)
    assert layer_by_layer.requires_grad
    with torch.no_grad():
        in_blocks = decoder(z, y)
    torch.testing.assert_close(in_blocks, layer_by_layer.detach(), rtol=0, atol=1e-14)
    assert layer_by_layer.std() > 1e-3


def test_the_last_layers_in_blocks_are_not_rounded_where_others_are():
    decoder, planes = Decoder(2), torch.randn(5, 4, 30, 30)
    with torch.no_grad():
        exact = decoder.f[9:](planes)
        with torch.autocast("cpu", torch.bfloat16):
            result = in_blocks(planes, *decoder.f[9:])
    torch.testing.assert_close(result, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [(3,), (5, 3), (2, 5, 3)])
def test_networks_accept_leading_dimensions(batch):
    decoder, encoder = Decoder(4), Encoder(8)
    z, x = torch.randn(*batch, 4), torch.rand(*batch, 1, 28, 28)
    logits, numbers = decoder(z), encoder(x)
    assert logits.shape == (*batch, 1, 28, 28)
    assert numbers.shape == (*batch, 8)
    torch.testing.assert_close(logits[..., 1, :, :, :], decoder(z[..., 1, :]))
    torch.testing.assert_close(numbers[..., 1, :], encoder(x[..., 1, :, :, :]))


@pytest.mark.parametrize("batch", [(3,), (5, 3)])
def test_labels_reach_every_sample_of_their_image(batch):
    decoder, encoder = Decoder(4, num_classes=10), Encoder(8, num_classes=10)
    z, x, y = torch.randn(*batch, 4), torch.rand(*batch, 1, 28, 28), torch.tensor([7, 0, 3])
    for network, inputs in ((decoder, z), (encoder, x)):
        together = network(inputs, y)
        for b in range(3):
            alone = network(
                inputs[..., b : b + 1, :] if network is decoder else x[..., b : b + 1, :, :, :],
                y[b : b + 1],
            )
            torch.testing.assert_close(
                together.select(len(batch) - 1, b), alone.squeeze(len(batch) - 1)
            )
        other = network(inputs, torch.tensor([7, 1, 3]))
        changed = (other != together).flatten(len(batch)).any(-1)
        assert changed.reshape(-1, 3).all(0).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("num_classes", "labels", "message"),
    [
        (0, (torch.zeros(3, dtype=torch.int64),), "takes no labels"),
        (10, (), "takes labels y of 10 classes"),
        (10, (torch.zeros(2, dtype=torch.int64),), "one int64 label for each of 3 images"),
        (10, (torch.zeros(3),), "one int64 label for each of 3 images, not float32"),
        (10, (torch.tensor([0, 1, 10]),), "labels from 0 to 9"),
        (10, (torch.tensor([0, -1, 2]),), "labels from 0 to 9"),
    ],
)
def test_wrong_labels_are_named(num_classes, labels, message):
    for network, inputs in (
        (Decoder(4, num_classes), torch.zeros(3, 4)),
        (Encoder(8, num_classes=num_classes), torch.zeros(3, 1, 28, 28)),
    ):
        with pytest.raises(InputError, match=message):
            network(inputs, *labels)


def test_channels_last_keeps_values_and_gradients():
    x = torch.rand(3, 1, 4, 5, requires_grad=True)
    y = channels_last(x)
    assert y.stride() == (20, 1, 5, 1)
    (y * torch.arange(60.0).view(3, 1, 4, 5)).sum().backward()
    assert torch.equal(x, y)
    assert torch.equal(x.grad, torch.arange(60.0).view(3, 1, 4, 5))


def test_bfloat16_encoder_is_near_the_float32_one():
    exact, rounded = Encoder(8), Encoder(8, "bfloat16")
    rounded.load_state_dict(exact.state_dict())
    x = torch.rand(10, 1, 28, 28)
    a, b = exact(x), rounded(x)
    assert b.dtype == torch.float32
    torch.testing.assert_close(a, b, atol=0.02, rtol=0.02)
    assert not torch.equal(a, b)


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({}, "float32"),
        ({"avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
    ],
)
def test_auto_precision_is_bfloat16_where_the_processor_multiplies_it(
    capabilities, precision, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto") == precision
    assert resolve_precision("float32") == "float32"


def test_a_torch_that_does_not_know_the_processor_stays_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto") == "float32"


@pytest.mark.parametrize("make", [Encoder, LabelEncoder])
@pytest.mark.parametrize("num_classes", [0, 10])
def test_the_encoder_is_its_layers_one_after_the_other(make, num_classes):
    """It runs its layers in another memory layout: output and gradients as of the plain ones."""
    if make is LabelEncoder and not num_classes:
        pytest.skip("a last layer for each label needs labels")
    encoder = make(6, num_classes=num_classes).double()
    x = torch.rand(5, 1, 28, 28, dtype=torch.float64)
    y = [torch.tensor([3, 0, 9, 3, 1])] if num_classes else []
    flat = encoder.g[:5](x)
    one_hot = [functional.one_hot(label, num_classes).double() for label in y]
    hidden = encoder.g[6](encoder.g[5](torch.cat([flat, *one_hot], 1)))
    last = encoder.g[7]
    plain = last(hidden, *y) if make is LabelEncoder else last(hidden)
    ours = encoder(x, *y)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-13)
    weights = list(encoder.parameters())
    towards = torch.randn_like(plain)
    for found, expected in zip(
        torch.autograd.grad(ours, weights, towards),
        torch.autograd.grad(plain, weights, towards),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
        assert expected.abs().max() > 1e-6


@pytest.mark.parametrize("latent_dim", [0, -1, 2.0, "4", None])
def test_wrong_latent_dim_is_named(latent_dim):
    with pytest.raises(InputError, match="latent_dim must be a whole number"):
        Decoder(latent_dim)


def test_wrong_precision_is_named():
    with pytest.raises(InputError, match="precision must be 'auto'"):
        Encoder(8, "float16")


class PyTorchExample(torch.nn.Module):
    """PyTorch's example autoencoder as its documentation describes it: 784-400-20-400-784."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc21, self.fc22 = (torch.nn.Linear(a, b) for a, b in SIZES[:3])
        self.fc3, self.fc4 = (torch.nn.Linear(a, b) for a, b in SIZES[3:])

    def elbo(self, x, noise):
        x = x.flatten(1)
        hidden = functional.relu(self.fc1(x))
        loc, log_variance = self.fc21(hidden), self.fc22(hidden)
        z = loc + noise * torch.exp(0.5 * log_variance)
        rebuilt = torch.sigmoid(self.fc4(functional.relu(self.fc3(z))))
        log_lik = -functional.binary_cross_entropy(rebuilt, x, reduction="none").sum(1)
        kl = -0.5 * (1 + log_variance - loc**2 - log_variance.exp()).sum(1)
        return log_lik, kl


SIZES = [(784, 400), (400, 20), (400, 20), (20, 400), (400, 784)]


def test_the_dense_networks_are_pytorchs_example():
    theirs = PyTorchExample().double()
    model, guide = build_vae(20, architecture="dense")
    assert sum(w.numel() for m in (model, guide) for w in m.parameters()) == sum(
        (a + 1) * b for a, b in SIZES
    )
    model.decoder.double(), guide.double()
    with torch.no_grad():
        for ours, layers in (
            (guide.encoder.g[0], [theirs.fc1]),
            (guide.encoder.g[2], [theirs.fc21, theirs.fc22]),
            (model.decoder.f[0], [theirs.fc3]),
            (model.decoder.f[2], [theirs.fc4]),
        ):
            ours.weight.copy_(torch.cat([layer.weight for layer in layers]))
            ours.bias.copy_(torch.cat([layer.bias for layer in layers]))
    x, noise = torch.rand(6, 1, 28, 28).double(), torch.randn(6, 20).double()
    log_lik, kl = theirs.elbo(x, noise)
    q = guide.q(x)
    z = q.mean + noise * q.variance.sqrt()
    prior = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    ours = log_joint_in_chunks(model, [x], {"z": z[None]})[0] - prior
    torch.testing.assert_close(ours, log_lik, atol=1e-9, rtol=0)
    standard = torch.distributions.Normal(torch.zeros(6, 20).double(), 1)
    ours = torch.distributions.kl_divergence(q.base_dist, standard).sum(1)
    torch.testing.assert_close(ours, kl, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "num_classes"),
    [("appendix", 0), ("appendix", 10), ("dense", 0), ("dense", 10), ("per_label", 10)],
)
def test_every_architecture_takes_particles_and_labels(architecture, num_classes):
    model, guide = build_vae(3, architecture=architecture, num_classes=num_classes)
    x, y = torch.rand(5, 1, 28, 28), torch.arange(5)
    labels = [y] if num_classes else []
    z = torch.randn(7, 5, 3)
    logits = model.decoder(z, *labels)
    assert logits.shape == (7, 5, 1, 28, 28)
    torch.testing.assert_close(logits[2], model.decoder(z[2], *labels))
    numbers = guide.encoder(x, *labels)
    assert numbers.shape == (5, 6)
    torch.testing.assert_close(guide.encoder(x.expand(2, 5, 1, 28, 28), *labels)[1], numbers)
    if num_classes:
        assert not torch.allclose(guide.encoder(x, y.flip(0))[0], numbers[0])
        assert not torch.allclose(model.decoder(z, y.flip(0))[:, 0], logits[:, 0])


def test_an_encoder_is_of_its_decoders_make():
    assert isinstance(build_vae(2)[1].encoder, Encoder)
    _, guide = build_vae(2, architecture="dense")
    assert isinstance(guide.encoder, DenseDecoder.encoder)
    with pytest.raises(InputError, match="architecture 'deep' is unknown: choose from appendix"):
        build_vae(2, architecture="deep")


def test_each_label_has_a_layer_of_its_own():
    layer = LabelLinear(3, 4, num_classes=5, bias_spread=0.5)
    x, y = torch.randn(7, 6, 3), torch.tensor([0, 1, 2, 3, 4, 0])
    with torch.no_grad():
        layer.weight += torch.randn(4, 5, 3)
        found = layer(x, y)
        for b in range(6):
            one = functional.linear(x[:, b], layer.weight[:, y[b]], layer.bias[:, y[b]])
            torch.testing.assert_close(found[:, b], one)


def test_threads_add_up_the_gradient_of_labels_in_one_order():
    """Indexing by the labels instead gives other bits in each of 20 passes."""
    layer = LabelLinear(10, 64, num_classes=10)
    x, y = torch.randn(1000, 10), torch.randint(0, 10, (1000,))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    gradients = []
    try:
        for _ in range(20):
            outputs = (layer(x, y) * torch.arange(64)).square().sum()
            gradients.append(torch.autograd.grad(outputs, list(layer.parameters())))
    finally:
        torch.set_num_threads(threads)
    for again in gradients[1:]:
        assert all(map(torch.equal, gradients[0], again))


def test_labels_start_alike_but_for_the_biases_of_the_generator():
    model, guide = build_vae(3, architecture="per_label", num_classes=10)
    first, last = model.decoder.f[0], guide.encoder.g[7]
    for weight in (first.weight, last.weight, last.bias):
        assert (weight == weight[:, :1]).all()
    # 128 x 10 draws of sd 0.5: their sd is off by more than 6% in 1 of 400 seeds
    assert first.bias.std(1).square().mean().sqrt().item() == pytest.approx(0.5, rel=0.06)


def test_a_layer_for_each_label_needs_labels():
    with pytest.raises(InputError, match="classes must be a whole number >= 1, not 0"):
        build_vae(3, architecture="per_label")
    model, guide = build_vae(3, architecture="per_label", num_classes=10)
    for network, inputs in (
        (model.decoder, torch.zeros(4, 3)),
        (guide.encoder, torch.zeros(4, 1, 28, 28)),
    ):
        with pytest.raises(InputError, match="takes labels y of 10 classes"):
            network(inputs)
        with pytest.raises(InputError, match="must hold labels from 0 to 9"):
            network(inputs, torch.full((4,), 10))
