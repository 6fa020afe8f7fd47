"""Vae does what the functions do that it stands for."""

import math

import numpy as np
import pytest
import torch

from pyro_vae import InputError, Vae, log_likelihood, log_weights
from pyro_vae.analysis.sampling import (
    decode,
    decode_style,
    guide_samples,
    pixel_samples,
    posterior_moments,
)
from pyro_vae.analysis.sampling import sample as sample_images
from pyro_vae.guides import Refined
from pyro_vae.seeds import derive_seed
from tests.conftest import CHECKPOINTS
from tests.guests import PyroStyle
from tests.programs import (
    HIERARCHY_DATA,
    W,
    hierarchy,
    hierarchy_guide,
    linear,
    linear_data,
    linear_guide,
)

X, PLANE = linear_data(2), HIERARCHY_DATA[:2]


@pytest.fixture(scope="module")
def plain():
    return Vae.load(CHECKPOINTS / "d4.pt")


@pytest.fixture(scope="module")
def conditional():
    return Vae.load(CHECKPOINTS / "conditional.pt")


@pytest.fixture
def x(digits):
    return digits.test_images[:4]


def test_a_checkpoint_comes_back_as_it_was(conditional, tmp_path):
    conditional.save(tmp_path / "copy.pt")
    copy = Vae.load(tmp_path / "copy.pt")
    assert copy.config == conditional.config
    for name in ("model", "guide"):
        ours, theirs = getattr(conditional, name).state_dict(), getattr(copy, name).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(("decay", "schedule"), [(False, "constant"), (True, "cosine")])
def test_older_checkpoints_are_read_by_the_names_of_their_time(decay, schedule, tmp_path):
    stored = torch.load(CHECKPOINTS / "d4.pt", weights_only=True)
    assert {"classes", "decay"} <= stored["config"].keys()
    stored["config"]["decay"] = decay
    torch.save(stored, tmp_path / "older.pt")
    config = Vae.load(tmp_path / "older.pt").config
    assert config["num_classes"] == 0
    assert config["schedule"] == schedule
    assert not {"classes", "decay"} & config.keys()


def test_log_likelihood_is_the_functions(plain, x):
    result = plain.log_likelihood(x, num_samples=30, seed=3)
    expected = log_likelihood(plain.model, plain.guide, x, num_samples=30, seed=3)
    np.testing.assert_array_equal(result.value, expected.value)


def test_refined_has_the_same_model_and_cannot_be_saved(plain, x, tmp_path):
    refined = plain.refined(num_starts=1, samples_per_round=(50, 50))
    assert refined.model is plain.model
    assert isinstance(refined.guide, Refined)
    assert np.isfinite(refined.log_likelihood(x[:1], num_samples=30).value).all()
    with pytest.raises(InputError, match="guide is a Refined, which has no encoder to store"):
        refined.save(tmp_path / "refined.pt")
    assert not list(tmp_path.iterdir())


def test_a_model_of_another_make_than_its_config_is_not_saved(plain, conditional, tmp_path):
    with pytest.raises(InputError, match="model does not match the config"):
        Vae(conditional.model, plain.guide, plain.config).save(tmp_path / "mixed.pt")
    assert not list(tmp_path.iterdir())


def test_reconstructions_are_decoded_samples_of_the_guide(plain, x):
    images = plain.reconstruct(x, num_samples=2, seed=5)
    z = guide_samples(plain.guide, x, num_samples=2, seed=5)
    assert images.shape == (2, 4, 1, 28, 28)
    assert torch.equal(images, decode(plain.model, z))
    assert torch.equal(images, plain.decode(z))


def test_samples_are_decoded_draws_of_the_prior(plain, conditional):
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(7))
    images = plain.sample(5, seed=7)
    assert torch.equal(images, decode(plain.model, z))
    assert torch.equal(plain.sample(5, seed=7, pixels=True), pixel_samples(images, 7))
    y, style = torch.arange(10), torch.randn(10, 10, generator=torch.Generator().manual_seed(1))
    assert torch.equal(conditional.sample(10, y, seed=1), decode_style(conditional.model, style, y))
    assert not torch.equal(plain.sample(5, seed=8), images)
    with pytest.raises(InputError, match="labels y of 10 classes"):
        conditional.sample(10)


def test_interpolation_ends_at_the_guides_means(plain, conditional, x):
    images = plain.interpolate(x[:2], x[2:], steps=5)
    assert images.shape == (5, 2, 1, 28, 28)
    means = plain.decode(posterior_moments(plain.guide, x)[0])
    torch.testing.assert_close(images[[0, -1]].flatten(0, 1), means, rtol=0, atol=1e-5)
    middle = posterior_moments(plain.guide, x)[0].unflatten(0, (2, 2)).mean(0)
    torch.testing.assert_close(images[2], plain.decode(middle), rtol=0, atol=1e-5)
    # under a learned prior the line is straight in the style, and ends at the means all the same
    y = torch.tensor([3, 5])
    images = conditional.interpolate(x[:2], x[2:], y, steps=3)
    z = posterior_moments(conditional.guide, x, y.repeat(2))[0]
    means = conditional.decode(z, y.repeat(2))
    torch.testing.assert_close(images[[0, -1]].flatten(0, 1), means, rtol=0, atol=1e-3)
    with torch.no_grad():
        middle = conditional.model.prior.style(z, y.repeat(2)).unflatten(0, (2, 2)).mean(0)
    expected = decode_style(conditional.model, middle, y)
    torch.testing.assert_close(images[1], expected, rtol=0, atol=1e-4)
    with pytest.raises(InputError, match="x1 must have the shape of x0"):
        plain.interpolate(x[:2], x[2:3])


def test_it_moves_as_a_whole(x):
    """To another dtype here, as to another device: the refined guide's own programs too."""
    refined = Vae.load(CHECKPOINTS / "d4.pt").refined(num_starts=1, samples_per_round=(50,))
    assert refined.to(torch.float64) is refined
    assert refined.sample(2).dtype == torch.float64
    result = refined.log_likelihood(x[:1].double(), num_samples=30)
    assert np.isfinite(result.value).all()


def test_it_says_what_it_is(conditional):
    assert repr(conditional) == "Vae(decoder=LabelDecoder, guide=MeanField, latent_dim=10)"
    assert conditional.device == torch.device("cpu")


def test_a_device_that_is_not_here_is_named(tmp_path):
    with pytest.raises(InputError, match="device 'typo' cannot be used here: try 'cpu'"):
        Vae.load(CHECKPOINTS / "d4.pt", device="typo")


@pytest.fixture
def own():
    """A Vae of a user's own programs, and images that they take."""
    torch.manual_seed(0)
    module, x = PyroStyle(), torch.rand(6, 1, 28, 28).round()
    return Vae(module.model, module.guide, example=x[:1]), x


def test_programs_of_ones_own_do_what_the_functions_do(own):
    """Dropout and batch norm are off: what is computed twice is the same."""
    vae, x = own
    assert repr(vae) == "Vae(model=PyroStyle.model, guide=PyroStyle.guide)"
    assert vae.latent_dim == 3
    assert vae.device == torch.device("cpu")
    expected = log_likelihood(vae.model, vae.guide, x, num_samples=20, seed=3)
    np.testing.assert_array_equal(
        vae.log_likelihood(x, num_samples=20, seed=3).value, expected.value
    )
    images = vae.reconstruct(x, num_samples=2)
    assert images.shape == (2, 6, 1, 28, 28)
    assert torch.equal(images, vae.decode(guide_samples(vae.guide, x, num_samples=2)))
    assert torch.equal(vae.sample(4, seed=2), sample_images(vae.model, 4, like=x, seed=2))
    assert set(vae.sample(4, pixels=True).unique().tolist()) == {0, 1}
    line = vae.interpolate(x[:2], x[2:4], steps=3)
    means = posterior_moments(vae.guide, x[:4])[0]
    torch.testing.assert_close(line[[0, -1]].flatten(0, 1), vae.decode(means))
    torch.testing.assert_close(line[1], vae.decode(means.unflatten(0, (2, 2)).mean(0)))
    refined = vae.refined(num_starts=1, samples_per_round=(50,))
    assert np.isfinite(refined.log_likelihood(x[:1], num_samples=30).value).all()
    assert refined.sample(2).shape == (2, 1, 28, 28)
    assert vae.model.__self__.training
    with pytest.raises(InputError, match=r"Vae\(model, guide, example=x\[:1\]\)"):
        Vae(vae.model, vae.guide).sample(2)


def test_functions_and_several_latents_are_taken():
    vae = Vae(linear, linear_guide, example=X)
    z = torch.randn(4, 2)
    torch.testing.assert_close(vae.decode(z), z @ W)
    assert vae.latent_dim == 2
    assert vae.sample(5).shape == (5, 5)
    vae = Vae(hierarchy, hierarchy_guide, example=PLANE)
    assert vae.latent_dim == 3
    line = vae.interpolate(PLANE[:1], PLANE[1:], steps=3)
    # the ends are means of 1000 draws with deviation 0.6: 5 standard errors
    assert (line[[0, -1], 0] - PLANE).abs().max() < 5 * 0.6 / 1000**0.5
    torch.testing.assert_close(line[1], line[[0, -1]].mean(0))


def test_programs_of_ones_own_move_as_a_whole(own):
    vae, x = own
    refined = vae.refined(num_starts=1, samples_per_round=(50,)).to(torch.float64)
    assert next(vae.guide.__self__.parameters()).dtype == torch.float64
    assert refined.sample(2).dtype == torch.float64
    assert np.isfinite(refined.log_likelihood(x[:1].double(), num_samples=30).value).all()


def test_programs_of_ones_own_are_saved_as_weights(own, tmp_path):
    vae, x = own
    vae.config = {"epochs": 3}
    vae.save(tmp_path / "own.pt")
    content = torch.load(tmp_path / "own.pt", weights_only=True)  # holds no code
    assert content["programs"] == {"model": "PyroStyle.model", "guide": "PyroStyle.guide"}
    assert not content["example"].any()
    other = PyroStyle()
    copy = Vae.load(tmp_path / "own.pt", model=other.model, guide=other.guide)
    assert copy.config == {"epochs": 3}
    assert torch.equal(copy.reconstruct(x), vae.reconstruct(x))
    assert torch.equal(copy.sample(3), vae.sample(3))
    wide = PyroStyle(latent_dim=4)

    class Another(PyroStyle):
        pass

    named = Another()
    stored = {key: w.clone() for key, w in named.state_dict().items()}
    for options, message in (
        (
            {},
            "of your own, PyroStyle.model and PyroStyle.guide: give them",
        ),
        ({"model": other.model}, "not of model PyroStyle.model: give"),
        ({"model": named.model, "guide": named.guide}, "not of model Another.model, guide Ano"),
        ({"model": other.guide, "guide": other.model}, "not of model PyroStyle.guide, guide P"),
        ({"model": wide.model, "guide": wide.guide}, "holds another architecture: decoder.0.weig"),
        ({"model": linear, "guide": linear_guide}, "linear has no weights to store or load"),
    ):
        with pytest.raises(InputError, match=message) as found:
            Vae.load(tmp_path / "own.pt", **options)
        assert len(str(found.value).splitlines()) == 1
    assert all(torch.equal(w, stored[key]) for key, w in named.state_dict().items())
    with pytest.raises(InputError, match=r"holds what Vae\.build builds: load it without"):
        Vae.load(CHECKPOINTS / "d4.pt", model=other.model, guide=other.guide)
    for unsaved in (Vae(linear, linear_guide), vae.refined()):
        with pytest.raises(InputError, match="has no weights to store or load"):
            unsaved.save(tmp_path / "none.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["own.pt"]


def test_the_packages_parts_are_saved_without_a_config(plain, x, tmp_path):
    """As programs of one's own, such as `Model` over a decoder of one's own."""
    Vae(plain.model, plain.guide).save(tmp_path / "parts.pt")
    again = Vae.build(4, precision=plain.config["precision"])
    copy = Vae.load(tmp_path / "parts.pt", model=again.model, guide=again.guide)
    assert torch.equal(copy.reconstruct(x), plain.reconstruct(x))


def test_a_conditional_autoencoder_sums_over_the_labels_that_are_not_given():
    """log p(x) = log mean_y p(x | y), by the same draws: equal to rounding."""
    torch.manual_seed(0)
    vae = Vae.build(2, architecture="dense", num_classes=3)
    x = torch.rand(4, 1, 28, 28).round()
    result = vae.log_likelihood(x, num_samples=20)
    log_w = [
        log_weights(vae.model, vae.guide, x, torch.full((4,), y), num_samples=20,
                    seed=derive_seed(0, y))
        for y in range(3)
    ]  # fmt: skip
    by_hand = torch.stack(log_w).logsumexp((0, 1)) - math.log(3 * 20)
    np.testing.assert_allclose(result.value, by_hand, atol=1e-9)
