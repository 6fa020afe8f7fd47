"""What a distribution refuses is said plainly, wherever a user meets it."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.analysis.comparison import compare
from pyro_vae.errors import InputError
from pyro_vae.guides.prior import PriorGuide
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.annealing import annealed_log_likelihood
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.models import Model
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae

X = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
DECODER = build_vae(2, architecture="dense")[0].decoder


class Own(nn.Module):
    """A model whose pixels have the distribution that `pixels` makes of one number."""

    def __init__(self, pixels, scale=1.0):
        super().__init__()
        self.pixels, self.net, self.scale = pixels, nn.Linear(2, 784), scale

    def forward(self, x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pixels = self.pixels(self.net(z)).to_event(1)
            pyro.sample("pixels", pixels, obs=self.scale * x.flatten(1))


def guide(x):
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def bernoulli(logits):
    return dist.Bernoulli(logits=logits)


@pytest.mark.parametrize(
    ("model", "site"), [(Own(bernoulli), "pixels"), (Model(DECODER, dist.Bernoulli), "x")]
)
@pytest.mark.parametrize(
    "use",
    [
        lambda model: fit(model, guide, (X,), epochs=1, progress=False),
        lambda model: fit(model, guide, (X.round(),), (X,), epochs=1, batch_size=2, progress=False),
        lambda model: fit(model, guide, [(X[:4].round(),), (X[4:],)], epochs=1, progress=False),
        lambda model: log_likelihood(model, guide, X, num_samples=2),
        lambda model: log_likelihood(model, Refined(model, guide), X, num_samples=2),
        lambda model: annealed_log_likelihood(model, guide, X, num_steps=2),
        lambda model: compare(model, {"prior": guide}, X),
    ],
    ids=["fit", "test images", "a group", "log_likelihood", "refined", "annealed", "compare"],
)
def test_grey_pixels_under_a_bernoulli_are_called_that(model, site, use):
    message = (
        f"model or guide: site '{site}' is a Bernoulli, whose values are 0 or 1, and was given "
        "others: score grey pixels by pyro_vae.GreyBernoulli, or binarise them: "
        "transform=torch.bernoulli in fit, x.bernoulli() for scoring"
    )
    with pytest.raises(InputError) as found:
        use(model)
    assert str(found.value) == message


@pytest.mark.parametrize("model", [Own(bernoulli), Model(DECODER, dist.Bernoulli)])
def test_the_remedies_are_remedies(model):
    fit(model, guide, (X,), epochs=1, transform=torch.bernoulli, progress=False)
    log_likelihood(model, guide, X.bernoulli(), num_samples=2)


@pytest.mark.parametrize(
    ("pixels", "scale", "words"),
    [
        (
            lambda logits: dist.ContinuousBernoulli(logits=logits),
            255,
            "ContinuousBernoulli, whose values are from 0 to 1, .*: divide grey levels by their",
        ),
        (
            lambda logits: dist.Categorical(logits=logits[..., None].expand(-1, -1, 256)),
            1,
            r"Categorical, whose values are whole numbers from 0 to 255, .*\(255 \* x\)\.round\(\)",
        ),
        (
            lambda logits: dist.Poisson(logits.exp()),
            1,
            "Poisson, whose values are whole numbers >= 0, and was given others: make whole",
        ),
        (
            lambda logits: dist.LogNormal(logits, 1.0),
            -1,
            r"LogNormal, whose values are numbers > 0\.0, and was given others: give it images",
        ),
        (
            lambda logits: dist.Gamma(logits.exp(), 1.0),
            -1,
            r"Gamma, whose values are numbers >= 0\.0, .*, of that kind",
        ),
        (
            lambda logits: dist.Normal(logits, 1.0),
            torch.nan,
            "Normal, whose values are numbers and not NaN, .*: look for NaN in weights and images",
        ),
        (
            lambda logits: dist.VonMises(logits, 1.0).mask(True),
            torch.nan,
            "VonMises, whose values are ",
        ),
    ],
)
def test_what_a_distribution_takes_is_said_plainly(pixels, scale, words):
    for use in (
        lambda model: fit(model, guide, (X,), epochs=1, progress=False),
        lambda model: log_likelihood(model, guide, X, num_samples=2),
    ):
        with pytest.raises(InputError, match=f"site 'pixels' is a {words}") as found:
            use(Own(pixels, scale))
        assert len(str(found.value).splitlines()) == 1


def test_another_support_is_named_by_pytorchs_word():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.OneHotCategorical(logits=z), obs=x)

    with pytest.raises(InputError, match=r"OneHotCategorical, whose values are in OneHot\(\), and"):
        log_likelihood(model, guide, torch.ones(3, 2), num_samples=2)


def test_the_guides_of_the_package_say_it_too():
    model = Model(DECODER, dist.Bernoulli)
    with pytest.raises(InputError, match="score grey pixels by"):
        log_likelihood(model, PriorGuide(model), X, num_samples=2)


class Upright(nn.Module):
    """A model of images `(1, 28, 28)`, as many write it."""

    def forward(self, x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            logits = z.sum(-1)[..., None, None, None].expand(*z.shape[:-1], 1, 28, 28)
            pyro.sample("pixels", dist.Bernoulli(logits=logits).to_event(3), obs=x)


@pytest.mark.parametrize("use", [fit, log_likelihood, annealed_log_likelihood])
def test_images_without_a_channel_are_not_scored_against_each_other(use):
    """They would broadcast: each image against all, in silence."""
    x = X.round()
    options = {"progress": False, "epochs": 1} if use is fit else {}
    with pytest.raises(InputError, match=r"'pixels' .*\(1, 28, 28\).*\(8, 28, 28\).*x\[:, None\]"):
        use(Upright(), guide, (x[:, 0],) if use is fit else x[:, 0], **options)
    one = log_likelihood(Upright(), guide, x[:1], num_samples=20).value
    assert log_likelihood(Upright(), guide, x, num_samples=20).value[0] == pytest.approx(one[0], 1)


def test_what_a_network_does_not_take_is_one_line():
    model = Own(lambda logits: dist.Bernoulli(logits=logits))
    encoder = nn.Linear(100, 4)

    def wrong(x):
        loc, log_scale = encoder(x.flatten(1)).chunk(2, -1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    for use in (log_likelihood, lambda *p: fit(*p[:2], (p[2],), progress=False)):
        with pytest.raises(InputError, match=r"multiplied .*: give images of the shape that its"):
            use(model, wrong, X.round())
        with pytest.raises(InputError, match=r"give programs, .* such as vae.model and vae.guide"):
            use(nn.Module(), nn.Module(), X.round())


def test_labels_in_the_place_of_test_images_are_called_that():
    model, own = build_vae(2, architecture="dense")
    with pytest.raises(
        InputError, match=r"^test, int64 \(8,\), looks like labels: .*train=\(x, y\)"
    ):
        fit(model, own, (X,), torch.arange(8), epochs=0)
