"""Images and labels as people have them give what tensors give, to the bit."""

import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
)
from torchvision.transforms import ToTensor

from pyro_vae import ConversionWarning, Vae, as_images
from pyro_vae.analysis.comparison import compare
from pyro_vae.analysis.completion import complete
from pyro_vae.data import conversion
from pyro_vae.errors import InputError
from pyro_vae.guides.prior import PriorGuide
from pyro_vae.likelihood.annealing import annealed_log_likelihood
from pyro_vae.likelihood.importance import log_likelihood, log_weights
from pyro_vae.likelihood.unlabelled import unlabelled_log_likelihood
from pyro_vae.models import Model
from pyro_vae.training.fit import fit

BYTES = torch.randint(0, 256, (12, 28, 28), generator=torch.Generator().manual_seed(0)).byte()
X = BYTES[:, None].float() / 255
Y = torch.arange(12) % 3
VAE = Vae.build(2, architecture="dense", precision="float32")
CONDITIONAL = Vae.build(2, architecture="dense", precision="float32", num_classes=3)


@pytest.fixture(autouse=True)
def _said_anew(monkeypatch):
    monkeypatch.setattr(conversion, "_SAID", set())


@pytest.fixture
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        yield


class Pairs(Dataset):
    """A map-style set of (image, label), as torchvision's are."""

    def __init__(self, images, labels, transform=lambda image: image):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(self.images[i]), self.labels[i]


PICTURES = [Image.fromarray(image.numpy()) for image in BYTES]
SOURCES = {
    "no channel": X[:, 0],
    "bytes": BYTES,
    "bytes with a channel": BYTES[:, None],
    "array": X.numpy(),
    "array of bytes": BYTES.numpy(),
    "array without a channel": X[:, 0].numpy(),
    "array, channel last": X.numpy().transpose(0, 2, 3, 1),
    "float64 array": BYTES[:, None].numpy().astype("float64") / 255,
    "big-endian array": X.numpy().astype(">f4"),
    "read-only array": np.frombuffer(X.numpy().tobytes(), "float32").reshape(X.shape),
    "array backwards": X.numpy()[::-1].copy()[::-1],
    "rows of pixels": X.numpy().reshape(12, 784),
    "list of tensors": [*X],
    "list of arrays": [*X[:, 0].numpy()],
    "list of pictures": PICTURES,
    "set of tensors": TensorDataset(X),
    "set of bytes": TensorDataset(BYTES, Y),
    "set of pictures": Pairs(PICTURES, Y.tolist()),
    "set with a transform": Pairs(PICTURES, Y.tolist(), ToTensor()),
    "list of pairs": [*zip(X, Y.tolist(), strict=True)],
    "loader": DataLoader(TensorDataset(X, Y), batch_size=5),
    "loader that shuffles": DataLoader(TensorDataset(X), batch_size=5, shuffle=True),
    "loader that drops the last": DataLoader(TensorDataset(X), batch_size=5, drop_last=True),
    "loader of bytes": DataLoader(TensorDataset(BYTES), batch_size=5),
    "loader of no batches": DataLoader(TensorDataset(X), batch_size=None),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.usefixtures("_quiet")
def test_what_is_taken_scores_as_tensors_do(source):
    options = {"num_samples": 5, "progress": False}
    wanted = log_likelihood(VAE.model, VAE.guide, X, **options)
    found = log_likelihood(VAE.model, VAE.guide, source, **options)
    np.testing.assert_array_equal(found.value, wanted.value)
    np.testing.assert_array_equal(VAE.log_likelihood(source, num_samples=5).value, wanted.value)


@pytest.mark.parametrize("name", ["array of bytes", "list of pairs"])
@pytest.mark.usefixtures("_quiet")
def test_every_entry_takes_it(name, capsys):
    source, mask = SOURCES[name], torch.arange(28) > 9
    model, guide = VAE.model, VAE.guide
    for use in (
        lambda x: log_weights(model, guide, x, num_samples=3),
        lambda x: log_weights(model, guide, x, num_samples=3, mask=mask.numpy()),
        lambda x: annealed_log_likelihood(model, guide, x, num_chains=2, num_steps=2).value,
        lambda x: complete(model, guide, x, mask, num_samples=5).images,
        lambda x: compare(model, {"prior": PriorGuide(model)}, x)[0]["elbo"]["mean"],
        VAE.reconstruct,
        lambda x: VAE.interpolate(x, x, steps=3),
        lambda x: (
            VAE.refined(num_starts=1, newton_steps=1, samples_per_round=(9,))
            .log_likelihood(x, num_samples=3)
            .value
        ),
    ):
        np.testing.assert_array_equal(np.asarray(use(source)), np.asarray(use(X)))


@pytest.mark.usefixtures("_quiet")
def test_training_takes_it_and_ends_with_the_same_weights():
    def trained(train, test=None, **options):
        vae = Vae.build(2, architecture="dense", precision="float32")
        vae.guide.load_state_dict(VAE.guide.state_dict())
        vae.model.load_state_dict(VAE.model.state_dict())
        options = {"epochs": 2, "batch_size": 5, "progress": False} | options
        history = fit(vae.model, vae.guide, train, test, **options)
        return [record["train_elbo"] for record in history], vae.guide.encoder.state_dict()

    wanted, weights = trained((X,), (X[:4],))
    for train, test in (
        (X, X[:4]),
        ((BYTES,), (BYTES[:4],)),
        (BYTES.numpy(), BYTES[:4].numpy()),
        ((BYTES.numpy(),), BYTES[:4]),
        (([*X],), ([*X[:4]],)),
        (SOURCES["set of pictures"], TensorDataset(X[:4])),
        ((SOURCES["loader that shuffles"],), DataLoader(TensorDataset(X[:4], Y[:4]))),
    ):
        found, others = trained(train, test)
        assert found == wanted
        assert all(torch.equal(weights[name], w) for name, w in others.items())
    groups = [(X[:6],), (X[6:],)]
    assert trained(groups)[0] == trained([[BYTES[:6]], (TensorDataset(X[6:], Y[6:]),)])[0]
    binarised = {"transform": torch.bernoulli}
    assert trained((X,), **binarised)[0] == trained(BYTES.numpy(), **binarised)[0]


def test_a_tensor_reaches_a_transform_as_it_is():
    seen = []

    def scaled(x):
        seen.append(x.dtype)
        return x[:, None].float() / 255

    fit(VAE.model, VAE.guide, (BYTES,), epochs=1, transform=scaled, progress=False)
    assert {*seen} == {torch.uint8}


@pytest.mark.parametrize(
    "labels", [Y.int(), Y.numpy(), Y.numpy().astype("uint16"), Y.tolist(), [*Y], [*Y.numpy()]]
)
@pytest.mark.usefixtures("_quiet")
def test_labels_are_taken_as_arrays_and_lists(labels):
    model, guide = CONDITIONAL.model, CONDITIONAL.guide
    wanted = log_likelihood(model, guide, X, Y, num_samples=5).value
    found = log_likelihood(model, guide, BYTES, labels, num_samples=5).value
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(
        CONDITIONAL.log_likelihood(X, labels, num_samples=5).value, wanted
    )
    assert torch.equal(CONDITIONAL.sample(12, labels), CONDITIONAL.sample(12, Y))
    z = torch.randn(12, 2)
    assert torch.equal(CONDITIONAL.decode(z, labels), CONDITIONAL.decode(z, Y))
    train = [fit(model, guide, (X, y), epochs=0, progress=False) for y in (Y, labels)]
    assert train == [[], []]


def test_labels_of_a_set_are_used_where_the_model_takes_labels():
    model, guide = CONDITIONAL.model, CONDITIONAL.guide
    data = TensorDataset(X, Y.int())
    wanted = log_likelihood(model, guide, X, Y, num_samples=5).value
    for source in (data, DataLoader(data, batch_size=5)):
        found = log_likelihood(model, guide, source, num_samples=5).value
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(
            CONDITIONAL.log_likelihood(source, num_samples=5).value, wanted
        )
    # those that are given come before them
    others = log_likelihood(model, guide, data, (Y + 1) % 3, num_samples=5).value
    assert not np.array_equal(others, wanted)
    # asked to sum over the labels, it does
    y = torch.arange(3)
    sums = [
        unlabelled_log_likelihood(model, guide, x, labels=labels, num_samples=5).value
        for x, labels in ((X, y), (data, y.tolist()), (data, y.numpy()))
    ]
    assert (sums[0] == sums[1]).all()
    assert (sums[0] == sums[2]).all()
    with pytest.warns(
        ConversionWarning, match="the labels of x are left out: the model takes none"
    ):
        log_likelihood(VAE.model, VAE.guide, data, num_samples=5)


class Own(nn.Module):
    """A user's program of any images, which names its labels."""

    def __init__(self, observes, numbers=784):
        super().__init__()
        self.observes, self.net = observes, nn.Linear(2, numbers)

    def forward(self, x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).to(x), 1.0).to_event(1))
            if self.observes:
                pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=x.flatten(1))


class Labelled(Own):
    def forward(self, x, y):
        super().forward(x)


class HalfLabelled(Own):
    def forward(self, x, y=None):
        super().forward(x)


@pytest.mark.parametrize("labels", [(), (Y,), (Y.tolist(),)])
def test_labels_go_with_the_images_of_a_set_to_the_weights(labels):
    """ "meta" stands for a GPU."""
    model = Labelled(True).to("meta")
    batch = conversion.as_batch(model, TensorDataset(X, Y), *labels)
    assert [part.device.type for part in batch] == ["meta", "meta"]


def test_programs_of_ones_own_get_the_shape_that_was_given():
    seen = []

    class Seeing(Own):
        def forward(self, x):
            seen.append((x.shape[1:], x.dtype))
            super().forward(x)

    model, guide = Seeing(True), Own(False)
    sources = X[:, 0], BYTES, BYTES.numpy(), BYTES.numpy() / 255.0
    with pytest.warns(ConversionWarning) as said:
        scores = [log_likelihood(model, guide, x, num_samples=3).value for x in sources]
    assert all((score == scores[0]).all() for score in scores)
    assert {*seen} == {((28, 28), torch.float32)}
    assert [str(warning.message) for warning in said] == [
        "x, uint8 (12, 28, 28): taken as grey levels from 0 to 255, divided by 255",
        "x, float64 (12, 28, 28): made float32, as the weights are",
    ]
    double = Own(True).double(), Own(False).double()
    arrays = [BYTES.numpy() / 255.0, torch.from_numpy(BYTES.numpy() / 255.0)]
    scores = [log_likelihood(*double, x, num_samples=3).value for x in arrays]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16])
def test_whole_numbers_may_be_counts_and_stay(dtype):
    def model(x):
        assert x.dtype == dtype
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
            pyro.sample("x", dist.Poisson(rate), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("rate", dist.Gamma(2.0, 1.0))

    counts = torch.tensor([3, 0, 5]).to(dtype)
    for source in (counts, counts.numpy()):
        assert len(log_likelihood(model, guide, source, num_samples=3).value) == 3


def test_bytes_without_a_number_above_1_are_black_and_white():
    x = BYTES > 127
    with pytest.warns(
        ConversionWarning, match=r"x, bool .*: taken as 0 and 1; .*\(12, 1, 28, 28\)"
    ):
        wanted = log_likelihood(VAE.model, VAE.guide, x, num_samples=3).value
    with pytest.warns(ConversionWarning, match="taken as black and white, 0 and 1"):
        found = log_likelihood(VAE.model, VAE.guide, x.byte(), num_samples=3).value
    floats = log_likelihood(VAE.model, VAE.guide, x[:, None].float(), num_samples=3).value
    assert (wanted == floats).all()
    assert (found == floats).all()


def test_each_kind_is_said_once_and_floats_are_not_spoken_of():
    with pytest.warns(ConversionWarning) as said:
        _ = [VAE.reconstruct(x) for x in (BYTES, BYTES[:5, None], BYTES)]
    (warning,) = said
    assert str(warning.message) == (
        "x, uint8 (12, 28, 28): taken as grey levels from 0 to 255, divided by 255; "
        "x, float32 (12, 28, 28): taken as (12, 1, 28, 28)"
    )
    for x in (X, X.numpy(), [*X], TensorDataset(X)):  # nothing is changed
        log_likelihood(VAE.model, VAE.guide, x, num_samples=2)


def test_one_image_of_any_form_is_taken_as_one():
    wanted = VAE.reconstruct(X[:1])
    for x in (X[0], X[0, 0], X[0].flatten()):
        with pytest.warns(ConversionWarning, match=r"taken as \(1, 1, 28, 28\)"):
            assert torch.equal(VAE.reconstruct(x), wanted)


def test_bytes_without_large_numbers_are_said_to_be_dark():
    x = torch.arange(17, dtype=torch.uint8).repeat(2, 1)  # as of scikit-learn's digits
    with pytest.warns(ConversionWarning, match="divided by 255$"):
        as_images(BYTES)
    with pytest.warns(ConversionWarning, match="divided by 255; the largest is 16$"):
        as_images(x)


def test_a_float_tensor_is_the_same_object():
    for x in (torch.rand(3), torch.rand(2, 5, 5).double(), torch.ones(2, dtype=torch.int64)):
        assert as_images(x) is x
    array = np.zeros((2, 3), np.float32)
    assert as_images(array).data_ptr() == array.ctypes.data


def test_colours_of_a_picture_come_first():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 30, 3)).astype("uint8")
    pictures = [Image.fromarray(each) for each in pixels]
    with pytest.warns(ConversionWarning, match="divided by 255"):
        found = as_images(pictures)
    assert torch.equal(found, torch.stack([ToTensor()(each) for each in pictures]))
    black = [Image.fromarray(each[..., 0] > 127) for each in pixels]
    with pytest.warns(ConversionWarning, match="taken as 0 and 1"):
        assert torch.equal(as_images(black), torch.stack([ToTensor()(each) for each in black]))


class Colour(nn.Module):
    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 3 * 32 * 30)

    def forward(self, z):
        return self.net(z).unflatten(-1, (3, 32, 30))


def test_a_models_own_images_say_what_shape_is_meant():
    model = Model(Colour())
    guide = PriorGuide(model)
    assert model.image_shape == (3, 32, 30)
    x = torch.rand(4, 3, 32, 30)
    wanted = log_likelihood(model, guide, x, num_samples=3).value
    with pytest.warns(ConversionWarning, match=r"\(4, 32, 30, 3\): taken as \(4, 3, 32, 30\)"):
        found = log_likelihood(model, guide, x.movedim(1, -1).numpy(), num_samples=3).value
    assert (found == wanted).all()
    with pytest.warns(ConversionWarning, match=r"\(3, 32, 30\): taken as \(1, 3, 32, 30\)"):
        found = log_likelihood(model, guide, x[0], num_samples=3).value
    assert (found == log_likelihood(model, guide, x[:1], num_samples=3).value).all()
    with pytest.raises(
        InputError, match=r"x must have shape \(B, 3, 32, 30\), .*, not float32 \(4, 2880\)"
    ):
        log_likelihood(model, guide, x.flatten(1), num_samples=3)  # the order is not plain


def test_the_shape_is_found_without_a_trace():
    """Neither random numbers nor batch statistics nor modes change."""

    class Noisy(Colour):
        def __init__(self):
            super().__init__()
            self.norm = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())

        def forward(self, z):
            return super().forward(self.norm(z) + torch.randn(2))

    model = Model(Noisy())
    before = torch.get_rng_state(), {name: w.clone() for name, w in model.state_dict().items()}
    assert model.image_shape == (3, 32, 30)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(before[1][name], w) for name, w in model.state_dict().items())
    assert model.training


def test_gathering_leaves_random_numbers_as_they_were():
    state = torch.get_rng_state()
    first = as_images(DataLoader(Pairs([*X], Y, lambda x: x + torch.rand(())), batch_size=5))
    again = as_images(Pairs([*X], Y, lambda x: x + torch.rand(())))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == again.shape == X.shape


def test_a_sampler_of_ones_own_says_which_images():
    loader = DataLoader(TensorDataset(X), batch_size=2, sampler=SubsetRandomSampler([3, 5, 7]))
    found = as_images(loader)
    assert len(found) == 3
    assert torch.equal(found.sum((1, 2, 3)).sort()[0], X[[3, 5, 7]].sum((1, 2, 3)).sort()[0])
    joined = DataLoader(
        TensorDataset(X), batch_size=5, collate_fn=lambda rows: 1 - torch.cat(rows[0])
    )
    assert as_images(joined).shape == (3, 28, 28)


def test_a_loader_of_single_images_gives_their_channels_and_labels():
    x = torch.rand(4, 3, 8, 8)
    pairs = [*zip(x, [2, 0, 1, 1], strict=True)]
    for loader in (
        DataLoader(TensorDataset(x), batch_size=None),
        DataLoader(TensorDataset(x, Y[:4]), batch_size=None, shuffle=True),
        DataLoader(pairs, batch_size=None),
        DataLoader(pairs, batch_sampler=[[0, 1], [2, 3]]),
        DataLoader(
            TensorDataset(x),
            batch_size=None,
            sampler=BatchSampler(range(4), batch_size=3, drop_last=False),
        ),
    ):
        assert torch.equal(as_images(loader), x)
    batch = conversion.as_batch(Labelled(True), DataLoader(pairs, batch_size=None))
    assert batch[1].tolist() == [2, 0, 1, 1]


def test_what_a_program_text_without_a_name_does_is_said():
    code = compile("as_images(x)", "<text>", "exec")
    with pytest.warns(ConversionWarning, match="divided by 255"):
        exec(code, {"as_images": as_images, "x": BYTES})


class Stream(IterableDataset):
    def __iter__(self):
        yield from X


class Dicts(Pairs):
    def __getitem__(self, i):
        return {"image": self.images[i], "label": self.labels[i]}


class Endless(Dataset):
    def __getitem__(self, i):
        return X[0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            [X[0], X[1, :, :20]],
            r"image 1 of x is float32 \(1, 20, 28\), and the first is float32 \(1, 28",
        ),
        ([X[0], BYTES[:1]], r"image 1 of x is uint8 \(1, 28, 28\), and the first is float32"),
        ([[0.0, 1.0], [1.0]], r"image 0 of x is 0\.0: it must be a tensor"),
        (["a.png"], r"image 0 of x is 'a\.png': it must be a tensor, an array or a PIL image"),
        ([], "x must hold at least one image"),
        ([None], "image 0 of x is None"),
        (np.array(["a"]), "x must hold numbers, not <U1"),
        (np.array([None]), "x must hold numbers, not object"),
        (
            np.ma.masked_array(X.numpy(), X.numpy() > 0.5),
            r"x must hold numbers, not float32 \(12, 1",
        ),
        (
            Dicts(X, Y),
            r"x gives dicts of \['image', 'label'\]: give pairs of image and label, as \[\(r",
        ),
        (DataLoader(Dicts(X, Y.tolist())), r"x gives dicts of \['image', 'label'\]"),
        (Stream(), "x is of an IterableDataset, which may have no end: gather its images yourself"),
        (DataLoader(Stream()), "x is of an IterableDataset"),
        (Endless(), "a DataLoader or a torch Dataset with a length, not Endless"),
        (Pairs([*X], ["cat"] * 12), "label 0 of x is 'cat': it must be a whole number"),
        ([(X[0], 1), (X[1],)], "x must give as many things each time: 1 at number 1, and 2 before"),
        (
            [Image.new("RGBA", (28, 28))],
            r"image 0 of x is a PIL image of mode 'RGBA': convert it, by",
        ),
        (TensorDataset(X[:0]), "x must hold at least one image"),
        (DataLoader(TensorDataset(X, Y), collate_fn=lambda rows: len(rows)), "image 0 of x is 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
def test_what_is_no_image_data_is_one_line(source, message):
    with pytest.raises(InputError, match=message) as found:
        log_likelihood(VAE.model, VAE.guide, source, num_samples=2)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 12, "label 0 is 'a': it must be a whole number"),
        ([1, [2, 3]], r"label 1 is list\(2, 3\): it must be a whole number"),
        ([torch.tensor(1), torch.tensor([2, 3])], "labels must all have one shape"),
        (Y[:5].numpy(), r"y must have a row for each of 12 images, not int64 \(5,\)"),
        (np.array(["a"] * 12), "y must hold numbers, not <U1"),
        (
            Y.float(),
            r"y must be one int64 label .*, not float32 \(12,\): convert it by y\.long\(\)",
        ),
        (
            torch.eye(3)[Y],
            r"y must be one int64 label .*, not float32 \(12, 3\): convert it by y\.argmax\(1\)",
        ),
    ],
)
def test_what_are_no_labels_is_one_line(labels, message):
    model, guide = CONDITIONAL.model, CONDITIONAL.guide
    for use in (
        lambda: log_likelihood(model, guide, X, labels, num_samples=2),
        lambda: fit(model, guide, (X, labels), progress=False),
    ):
        with pytest.raises(InputError, match=message) as found:
            use()
        assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "guide", "rows", "message"),
    [
        (Own(True), Own(False), (Y,), "the model takes no labels: leave the others out{}"),
        (
            Labelled(True),
            Own(False),
            (),
            "the model takes labels y: give them after the images{y}",
        ),
        (Labelled(True), Own(False), (Y,), "the guide takes no labels: leave the others out{}"),
        (
            Labelled(True),
            Labelled(False),
            (Y, Y),
            "the model takes labels y alone: leave the others out{y}",
        ),
        (
            HalfLabelled(True),
            Labelled(False),
            (),
            "the guide takes labels y: give them after the images{y}",
        ),
    ],
)
def test_it_is_said_who_lacks_labels_or_takes_none(model, guide, rows, message):
    with pytest.raises(InputError, match=message.format("$", y="$")):
        log_likelihood(model, guide, X, *rows, num_samples=2)
    with pytest.raises(
        InputError, match=message.format(r", train=\(x,\)$", y=r", train=\(x, y\)$")
    ):
        fit(model, guide, (X, *rows), progress=False)


def test_a_half_labelled_model_takes_both():
    model, guide = HalfLabelled(True), HalfLabelled(False)
    for rows in ((X,), (X, Y), (TensorDataset(X, Y),), (TensorDataset(X),)):
        assert len(log_likelihood(model, guide, *rows, num_samples=2).value) == 12
    fit(model, guide, [(X, Y), (X,)], epochs=1, progress=False)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (
            X.double(),
            r"float64 \(12, 1, 28, 28\): give numbers of the type of the weights, as by x.fl",
        ),
        ((255 * X).long(), r"x\.float\(\) / 255 of grey levels from 0 to 255"),
        (X.half(), r"it was given float16 \(12, 1, 28, 28\)"),
    ],
)
def test_numbers_of_another_type_than_the_weights_are_named(x, words):
    """PyTorch's own words come first, for those who know them."""

    class Encoder(Own):
        def forward(self, x):
            loc = x.flatten(1) @ self.net.weight
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))

    model, guide = Own(True), Encoder(False)
    for use in (
        lambda: log_likelihood(model, guide, x, num_samples=2),
        lambda: fit(model, guide, (x,), (x,), progress=False),
        lambda: annealed_log_likelihood(model, guide, x, num_steps=2),
        lambda: Vae(model, guide, example=X[:1]).reconstruct(x),
    ):
        with pytest.raises(InputError, match=f"^model or guide: expected .*{words}") as found:
            use()
        assert len(str(found.value).splitlines()) == 1


def test_images_without_a_channel_may_have_a_mask_without_one():
    mask = torch.rand(X.shape) > 0.5
    wanted = log_likelihood(VAE.model, VAE.guide, X, mask=mask, num_samples=3).value
    with pytest.warns(ConversionWarning, match="taken as"):
        found = log_likelihood(VAE.model, VAE.guide, X[:, 0], mask=mask[:, 0], num_samples=3)
    assert (found.value == wanted).all()
