"""What cannot be trained or scored is refused before the first step; what can be is trained."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.training.fit import fit
from pyro_vae.training.objectives import objective
from tests.programs import PROBLEM, LinearGuide, z_of

X, model = PROBLEM.data(24), PROBLEM.model

QUICK = {"epochs": 1, "batch_size": 8, "progress": False}


class Program(nn.Module):
    """A program with a weight, that nothing may move."""

    def __init__(self, run):
        super().__init__()
        self.run, self.w = run, nn.Parameter(torch.ones(2).double())

    def forward(self, x):
        with pyro.plate("data", len(x)):
            self.run(x, self.w)


def observing_nothing(x, w):
    pyro.sample("z", z_of(w, 1.0))


def of_another_name(x, w):
    pyro.sample("latent", z_of(w, 1.0))


def of_too_many(x, w):
    pyro.sample("z", z_of(w, 1.0))
    pyro.sample("more", z_of(w, 1.0))


def of_nothing(x, w):
    pass


def observing(x, w):
    pyro.sample("z", z_of(w, 1.0))
    pyro.sample("x", z_of(torch.zeros(5).double(), 1.0), obs=x)


def of_no_event(x, w):
    pyro.sample("z", dist.Normal(w[:1], 1.0).expand([2, len(x)]))


REFUSED = [
    (of_another_name, model, "misses the model's latent site 'z'|no site of the model"),
    (of_too_many, model, "guide samples 'more', which is no site of the model"),
    (of_nothing, model, "guide samples nothing"),
    (observing, model, "the guide observes 'x'"),
    (of_no_event, model, "site 'z' gives log probabilities of shape"),
    (observing_nothing, Program(observing_nothing), "the model observes nothing"),
]


@pytest.mark.parametrize(("run", "program", "said"), REFUSED)
@pytest.mark.parametrize("test", [None, (X,)])
def test_programs_that_do_not_match_are_refused_untrained(tmp_path, run, program, said, test):
    guide = Program(run)
    pyro.param("users", torch.ones(2))
    before, state = copy.deepcopy(guide.state_dict()), torch.get_rng_state()
    options = QUICK | {"state_path": tmp_path / "state.pt"}
    if program is model:
        program = Program(lambda x, w: plain(x))
    with pytest.raises(InputError, match=said):
        fit(program, guide, (X,), test, **options)
    assert torch.equal(before["w"], guide.w)
    assert torch.equal(state, torch.get_rng_state())
    assert list(pyro.get_param_store()) == ["users"]
    assert list(tmp_path.iterdir()) == []
    copy.deepcopy(guide)


def plain(x):
    z = pyro.sample("z", z_of(torch.zeros(2).double(), 1.0))
    pyro.sample("x", z_of(z @ PROBLEM.w.T, PROBLEM.noise), obs=x)


def test_a_model_that_takes_no_labels_is_known_before_training():
    """The held-out images come with labels, the others without."""
    guide = LinearGuide()
    before = guide.a.weight.clone()
    with pytest.raises(InputError, match=r"the model takes no labels: .*, test=\(x,\)$"):
        fit(model, guide, (X,), (X, torch.arange(24)), **QUICK)
    assert torch.equal(before, guide.a.weight)


def test_a_model_in_the_guides_place_is_refused():
    with pytest.raises(InputError, match="the guide observes 'x'"):
        fit(model, model, (X,), **QUICK)
    with pytest.raises(InputError, match="the model observes nothing"):
        fit(LinearGuide(), LinearGuide(), (X,), **QUICK)


def mixture(x):
    means = pyro.param("means", torch.linspace(-1.0, 1.0, 10).reshape(2, 5).double())
    with pyro.plate("data", len(x)):
        pyro.sample("z", z_of(torch.zeros(2).double(), 1.0))
        half = dist.Bernoulli(torch.tensor(0.5).double())
        c = pyro.sample("c", half, infer={"enumerate": "parallel"})
        pyro.sample("x", z_of(means[c.long()], 1.0), obs=x)


def test_a_latent_that_the_bound_sums_over_needs_no_guide():
    (record,) = fit(mixture, LinearGuide(), (X,), elbo=TraceEnum_ELBO(max_plate_nesting=1), **QUICK)
    assert record["train_elbo"] < 0
    with pytest.raises(InputError, match="the guide misses the model's discrete latent 'c'"):
        fit(mixture, LinearGuide(), (X,), elbo=Trace_ELBO(), **QUICK)


ALL = {"batch_size": 24, "progress": False}


def test_a_point_estimate_is_trained_to_the_posterior_mode():
    guide = AutoDelta(model)
    fit(model, guide, (X,), epochs=600, learning_rate=0.05, schedule="cosine", **ALL)
    torch.testing.assert_close(guide.median()["z"], PROBLEM.posterior(X)[0], atol=1e-3, rtol=0)


def test_a_point_estimate_with_held_out_images_is_refused_untrained():
    """Needs `draw` to refuse what has no density."""
    guide = AutoDelta(model)
    guide(X)
    before = copy.deepcopy(guide.state_dict())
    with pytest.raises(InputError):
        fit(model, guide, (X,), (X,), epochs=1, **ALL)
    assert all(torch.equal(before[name], value) for name, value in guide.state_dict().items())


def test_an_autoguide_comes_to_the_mean_field_optimum_of_each_image():
    """The exact posterior mean within 0.03, and scale_i^2 = 1 / P_ii within 10%. Seeded."""
    guide = AutoNormal(model)
    fit(model, guide, (X,), epochs=2000, learning_rate=0.01, schedule="cosine", **ALL)
    mean, covariance = PROBLEM.posterior(X)
    scale = torch.linalg.inv(covariance).diagonal().rsqrt()
    loc, own_scale = guide.locs.z.detach(), guide.scales.z.detach()
    assert (loc - mean).abs().max() < 0.03
    assert (own_scale / scale - 1).abs().max() < 0.1
    exact = PROBLEM.elbo(X, mean, scale.expand(24, 2))
    assert (PROBLEM.elbo(X, loc, own_scale) - exact).abs().max() < 0.02


def test_a_resumed_autoguide_is_exact(tmp_path):
    def run(epochs, path=None, resume=False):
        module, options = Model(), {"state_path": path, "resume": resume}
        guide = AutoNormal(module)
        return guide, fit(module, guide, (X,), epochs=epochs, **ALL | options)

    path = tmp_path / "state.pt"
    whole, history = run(4)
    run(2, path)
    torch.manual_seed(9)
    resumed, again = run(4, path, resume=True)
    assert history == again
    pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class Model(nn.Module):
    def forward(self, x):
        model(x)


class Rows(nn.Module):
    """A user's guide with numbers of its own for each of 24 images."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(24, 2).double())

    def forward(self, x):
        with pyro.plate("data", 24):
            pyro.sample("z", z_of(self.loc, 0.5))


def rows_of_a_function(x):
    loc = pyro.param("loc", torch.zeros(24, 2).double())
    with pyro.plate("data", len(x)):
        pyro.sample("z", z_of(loc, 0.5))


OWN = [lambda: AutoNormal(model), lambda: AutoDiagonalNormal(model), Rows]


@pytest.mark.parametrize("make", [*OWN, lambda: rows_of_a_function])
def test_numbers_for_each_image_need_all_images_at_once(make):
    own = "guide has numbers of its own for each"
    with pytest.raises(InputError, match=f"{own} of 24 images: set batch_size to 24 or more$"):
        fit(model, make(), (X,), **QUICK)
    options = ALL | {"epochs": 1}
    with pytest.raises(InputError, match="to 24 or more, and batch_parts to 1"):
        fit(model, make(), (X,), batch_parts=2, **options)
    with pytest.raises(InputError, match=f"{own} image: train must be one group"):
        fit(model, make(), [(X,), (X,)], **options)
    with pytest.raises(InputError, match=f"{own} image of train: test must be the same images"):
        fit(model, make(), (X,), (X + 1,), **options)
    fit(model, make(), (X,), **options | {"batch_size": 100})


def test_images_with_numbers_of_their_own_are_not_shuffled():
    """Each row of the guide comes to the mean of its own image."""
    guide = Rows()
    options = {"learning_rate": 0.05, "schedule": "cosine"}
    (*_, last) = fit(model, guide, (X,), (X,), epochs=400, **ALL | options)
    assert (guide.loc - PROBLEM.posterior(X)[0]).abs().max() < 0.1
    exact = PROBLEM.elbo(X, guide.loc.detach(), torch.full((24, 2), 0.5).double()).mean()
    assert last["test_elbo"] == pytest.approx(float(exact), abs=2)


def test_a_guide_of_one_number_of_images_is_refused():
    class Fixed(LinearGuide):
        def forward(self, x):
            with pyro.plate("data", 8):
                pyro.sample("z", z_of(self.a(x), 1.0))

    with pytest.raises(InputError, match="guide runs on 8 images and not on 7: let it take"):
        fit(model, Fixed(), (X,), **QUICK)


@pytest.mark.parametrize("images", [1, 2])
def test_few_images_and_small_batches_are_trained(images):
    fit(model, LinearGuide(), (X[:images],), epochs=1, batch_size=1, progress=False)


class Softmaxed(nn.Module):
    """Its softmax over dimension 1 is over the images where particles come first; no error."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 8).double(), nn.Linear(8, PROBLEM.data_dim).double()

    def forward(self, x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", z_of(torch.zeros(2).double(), 1.0))
            pyro.sample("x", z_of(self.last(5 * self.first(3 * z).softmax(1)), 0.5), obs=x)


@pytest.mark.parametrize("name", ["iwae", "dreg"])
def test_a_network_that_mixes_particles_in_silence_is_refused_untrained(name):
    torch.manual_seed(0)
    own, guide = Softmaxed(), LinearGuide()
    before = copy.deepcopy(own.state_dict())
    with pytest.raises(InputError, match=r"not take 8 particles at once \(.*\): let its networks"):
        fit(own, guide, (X,), elbo=objective(name, 8), progress=False)
    assert all(torch.equal(before[key], value) for key, value in own.state_dict().items())
    fit(own, guide, (X,), epochs=1, elbo=objective(name, 1), progress=False)
    fit(model, guide, (X,), epochs=1, elbo=objective(name, 8), progress=False)


def test_a_network_is_tried_anew_after_training():
    """Its last weights are zero at first, so that the mixed particles do not show."""
    torch.manual_seed(0)
    own, guide = Softmaxed(), LinearGuide()
    nn.init.zeros_(own.last.weight)
    log_likelihood(own, guide, X, num_samples=10)
    fit(own, guide, (X,), epochs=20, batch_size=8, learning_rate=0.05, progress=False)
    results = [log_likelihood(p, guide, X, num_samples=10) for p in (own, copy.deepcopy(own))]
    assert (results[0].value == results[1].value).all()


def test_weights_that_would_be_left_untrained_are_refused():
    """A function's network without pyro.module: SVI would train the guide alone, in silence."""
    decoder = nn.Linear(2, PROBLEM.data_dim).double()

    def names_it(x):
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", z_of(torch.zeros(2).double(), 1.0))
            pyro.sample("x", z_of(decoder(z), 0.5), obs=x)

    with pytest.raises(InputError, match="2 tensors of weights have a gradient and would not be"):
        fit(names_it, LinearGuide(), (X,), **QUICK)
    decoder.requires_grad_(False)
    fit(names_it, LinearGuide(), (X,), **QUICK)
