import math
import signal
import subprocess
import sys
import threading

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, ReweightedWakeSleep, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.guides.semi_amortised import SemiAmortised
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.seeds import derive_seed
from pyro_vae.training.fit import fit
from pyro_vae.training.optimiser import SingleOptimizer
from pyro_vae.training.stopping import Interrupted, TrainingError
from tests.autoencoders import build_vae


def train(
    digits, path=None, epochs=2, resume=False, latent_dim=2, seed=0, images=200,
    architecture="dense", **options,
):  # fmt: skip
    """A short training on the digits: model, guide and history."""
    torch.manual_seed(seed)
    model, guide = build_vae(latent_dim, architecture=architecture)
    history = fit(
        model,
        guide,
        (digits.train_images[:images],),
        (digits.test_images[:50],),
        epochs=epochs,
        batch_size=options.pop("batch_size", 50),
        seed=seed,
        state_path=path,
        resume=resume,
        progress=False,
        **options,
    )
    return model, guide, history


def weights(*modules):
    return [w for module in modules for w in module.state_dict().values()]


def assert_same_bits(run, other):
    for a, b in zip(weights(*run[:2]), weights(*other[:2]), strict=True):
        assert torch.equal(a, b)
    assert run[2] == other[2]


def test_training_raises_the_elbo(digits):
    _, _, history = train(digits, epochs=4)
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    assert history[-1]["train_elbo"] > history[0]["train_elbo"] + 50
    assert history[-1]["test_elbo"] > history[0]["test_elbo"]


@pytest.mark.parametrize("architecture", ["dense", "appendix"])
def test_every_parameter_moves(digits, architecture):
    torch.manual_seed(0)
    before = [w.clone() for w in weights(*build_vae(2, architecture=architecture))]
    model, guide, _ = train(digits, epochs=1, architecture=architecture)
    for old, new in zip(before, weights(model, guide), strict=True):
        assert not torch.equal(old, new)


def test_modules_in_another_memory_layout_train_the_same(digits):
    """Pyro's parameter store copies what is not contiguous, and would train the copy alone."""
    torch.manual_seed(0)
    model, guide = build_vae(2)
    model.to(memory_format=torch.channels_last), guide.to(memory_format=torch.channels_last)
    start = [w.clone() for w in weights(model, guide)]
    fit(model, guide, (digits.train_images[:200],), epochs=1, progress=False)
    for old, new in zip(start, weights(model, guide), strict=True):
        assert not torch.equal(old, new)


def test_a_second_guide_after_the_first_is_trained_too(digits):
    train(digits, epochs=1)
    test_every_parameter_moves(digits, "dense")


def test_same_seed_same_bits_other_seed_other_weights(digits):
    run = train(digits)
    assert_same_bits(run, train(digits))
    assert not torch.equal(weights(run[0])[0], weights(train(digits, seed=1)[0])[0])


def train_by_pyro(digits, images, optim, elbo):
    """What `train` does in one epoch, by Pyro's own SVI: model and guide."""
    torch.manual_seed(0)
    model, guide = build_vae(2, architecture="dense")
    pyro.clear_param_store()
    pyro.set_rng_seed(0)

    def registered_model(x):
        pyro.module("model", model)
        return model(x)

    def registered_guide(x):
        pyro.module("guide", guide)
        return guide(x)

    svi = SVI(registered_model, registered_guide, optim, elbo)
    order = torch.randperm(images, generator=torch.Generator().manual_seed(0))
    for step, batch in enumerate(order.split(50)):
        torch.manual_seed(derive_seed(0, 0, step, 0))
        svi.step(digits.train_images[batch])
    return model, guide


def test_one_optimiser_equals_pyros_one_per_tensor(digits):
    """The same Adam through Pyro's own wrapper, step for step."""
    ours = train(digits, epochs=1, images=200)
    model, guide = train_by_pyro(digits, 200, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    for a, b in zip(weights(*ours[:2]), weights(model, guide), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["dense", "appendix"])
def test_resume_after_an_epoch_is_exact(digits, tmp_path, architecture):
    options = {"architecture": architecture, "images": 100}
    whole = train(digits, epochs=3, **options)
    train(digits, tmp_path / "state.pt", epochs=1, **options)
    torch.manual_seed(123)  # what the process did in between does not matter
    assert_same_bits(whole, train(digits, tmp_path / "state.pt", epochs=3, resume=True, **options))


class StopAfter(nn.Module):
    """A guide that asks the process to stop, as Ctrl-C does, at its n-th call."""

    def __init__(self, guide, calls, number=signal.SIGINT):
        super().__init__()
        self.guide, self.calls, self.number = guide, calls, number

    def forward(self, x):
        self.calls -= 1
        if self.calls == 0:
            signal.raise_signal(self.number)  # on Windows os.kill would end this process
        return self.guide(x)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("step", "schedule"),
    [
        (1, "constant"),
        (3, "one_cycle"),
        (5, "cosine"),
        (6, "constant"),
        (7, "one_cycle"),
        (8, "cosine"),
        (12, "constant"),
    ],
)
def test_resume_in_the_middle_of_an_epoch_is_exact(digits, tmp_path, step, schedule, number):
    """4 steps an epoch, then one call for the test ELBO: stops at start, middle, end and there.

    A signal in the rehearsal, two calls, stops after the first step.
    """
    path = tmp_path / "state.pt"

    def stoppable(calls, resume):
        torch.manual_seed(0)
        model, guide = build_vae(2, architecture="dense")
        guide = StopAfter(guide, calls, number)
        history = fit(
            model, guide, (digits.train_images[:200],), (digits.test_images[:50],),
            epochs=2, batch_size=50, schedule=schedule, state_path=path, resume=resume,
            progress=False,
        )  # fmt: skip
        return model, guide, history

    whole = stoppable(0, False)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="continue with resume=True"):
        stoppable(step, False)
    assert signal.getsignal(number) is before
    assert_same_bits(whole, stoppable(0, True))


@pytest.fixture
def rates(monkeypatch):
    """The learning rate of every step."""
    used = []
    step = SingleOptimizer.__call__

    def noted(optim, *args):
        step(optim, *args)
        (group,) = optim.optimiser.param_groups
        used.append(group["lr"])

    monkeypatch.setattr(SingleOptimizer, "__call__", noted)
    return used


def test_the_learning_rate_follows_the_schedule(digits, rates):
    model, guide = build_vae(2, architecture="dense")
    options = {"epochs": 2, "batch_size": 50, "learning_rate": 1e-3, "progress": False}
    fit(model, guide, (digits.train_images[:100],), schedule="cosine", **options)
    quarter = (1 + math.sqrt(0.5)) / 2
    assert rates == pytest.approx([1e-3, 1e-3 * quarter, 5e-4, 1e-3 * (1 - quarter)])
    rates.clear()
    fit(model, guide, (digits.train_images[:100],), **options)
    assert rates == [1e-3] * 4


@pytest.mark.parametrize(("schedule", "beta2"), [("one_cycle", 0.99), ("constant", 0.999)])
def test_adams_memory_is_as_long_as_its_schedule_allows(digits, monkeypatch, schedule, beta2):
    made = []
    adam = torch.optim.Adam
    monkeypatch.setattr(
        torch.optim, "Adam", lambda *a, **o: made.append(o["betas"]) or adam(*a, **o)
    )
    model, guide = build_vae(2, architecture="dense")
    fit(model, guide, (digits.train_images[:50],), epochs=1, schedule=schedule, progress=False)
    assert made == [(0.9, beta2)]


def test_one_cycle_is_torchs_of_a_step_more(digits, rates):
    """Its last step, which no training takes here, has the thousandth of the peak."""
    model, guide = build_vae(2, architecture="dense")
    options = {"epochs": 10, "batch_size": 10, "learning_rate": 8e-3, "progress": False}
    fit(model, guide, (digits.train_images[:100],), schedule="one_cycle", **options)
    theirs = []
    optimiser = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 8e-3, total_steps=101, pct_start=21 / 101, div_factor=25, final_div_factor=40
    )
    for _ in range(100):
        theirs.append(cycle.get_last_lr()[0])
        optimiser.step()
        cycle.step()
    assert rates == pytest.approx(theirs, rel=1e-9)
    assert max(rates) == 8e-3


def test_kill_9_loses_nothing(digits, tmp_path):
    """Killed at no chosen moment, the state on disk is a whole one and the resumed run is exact."""
    path = tmp_path / "state.pt"
    code = (
        "import torch; from tests.training.test_training import train\n"
        "from pyro_vae.data.loading import load_digits\n"
        f"train(load_digits(), {str(path)!r}, epochs=1000)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    for _ in range(600):
        if path.exists() or process.poll() is not None:
            break
        threading.Event().wait(0.1)
    threading.Event().wait(0.3)  # some epochs later, at whatever it is doing
    process.kill()
    assert process.wait() == (1 if sys.platform == "win32" else -signal.SIGKILL)
    done = torch.load(path, weights_only=True)["position"]["epoch"]
    assert done >= 1
    whole = train(digits, epochs=done + 1)
    assert_same_bits(whole, train(digits, path, epochs=done + 1, resume=True))


def test_resume_with_other_settings_is_refused(digits, tmp_path):
    path = tmp_path / "state.pt"
    train(digits, path, epochs=1)
    before = path.read_bytes()
    with pytest.raises(InputError, match="resume with the same options"):
        train(digits, path, epochs=2, resume=True, batch_size=40)
    with pytest.raises(InputError, match="resume with the same options"):
        train(digits, path, epochs=2, resume=True, must_match={"dataset": "another"})
    with pytest.raises(InputError, match="already seen 1 epochs, and 0 are asked"):
        train(digits, path, epochs=0, resume=True)
    with pytest.raises(InputError, match="another architecture"):
        train(digits, path, epochs=2, resume=True, latent_dim=3)
    assert path.read_bytes() == before


def test_nan_stops_with_the_last_good_state_kept(digits, tmp_path):
    path = tmp_path / "state.pt"
    train(digits, path, epochs=1)
    good = path.read_bytes()
    state = torch.load(path, weights_only=True)
    with pytest.raises(TrainingError, match=r"lower the learning rate .*; nothing is saved"):
        fit_with_exploding_loss(digits, path, at=3)
    assert path.read_bytes() == good  # of an earlier run, which is no good state of this one
    assert all(w.isfinite().all() for w in state["model"].values())
    with pytest.raises(TrainingError, match=r"lower the learning rate .*last good state is in"):
        fit_with_exploding_loss(digits, path, at=6)
    state = torch.load(path, weights_only=True)
    assert state["position"]["epoch"] == 1
    assert all(w.isfinite().all() for w in state["model"].values())


class NoNumberInUse(MeanField):
    """A guide that fails in evaluation mode once it has been trained."""

    seen = False

    def distribution(self, numbers):
        self.seen |= self.training
        fails = self.seen and not self.training
        return super().distribution(math.nan * numbers if fails else numbers)


@pytest.mark.parametrize("kind", [MeanField, SemiAmortised, NoNumberInUse])
def test_weights_that_no_distribution_takes_stop_training(digits, kind):
    """Seen by the model or guide, by a function that the guide calls, or with the test images."""
    torch.manual_seed(0)
    model, _ = build_vae(2)
    rate, where = (1e-3, "after epoch 1") if kind is NoNumberInUse else (100, "in epoch 1, step")
    options = {"epochs": 2, "batch_size": 10, "learning_rate": rate, "progress": False}
    x = digits.train_images[:20]
    with pytest.raises(TrainingError, match=rf"NaN or invalid {where}.*: lower the learning"):
        fit(model, kind(model), (x,), (x,), **options)


def fit_with_exploding_loss(digits, path, at):
    class Exploding(nn.Module):
        def __init__(self, guide):
            super().__init__()
            self.guide, self.calls = guide, 0

        def forward(self, x):
            self.calls += self.training  # not in the rehearsal
            with pyro.poutine.scale(scale=math.inf if self.calls == at else 1.0):
                return self.guide(x)

    model, guide = build_vae(2, architecture="dense")
    fit(model, Exploding(guide), (digits.train_images[:200],), epochs=2, batch_size=50,
        state_path=path, progress=False)  # fmt: skip


def test_the_bound_is_the_one_that_is_asked_for(digits, tmp_path):
    """Against Pyro's own loop; a training goes on with its own bound only."""
    path = tmp_path / "state.pt"
    bound = TraceMeanField_ELBO()
    ours = train(digits, path, epochs=1, images=100, elbo=bound)
    model, guide = train_by_pyro(digits, 100, SingleOptimizer(torch.optim.Adam, 1e-3), bound)
    sampled = train(digits, epochs=1, images=100)
    torch.testing.assert_close(weights(*ours[:2]), weights(model, guide), atol=1e-6, rtol=1e-5)
    pairs = zip(weights(*ours[:2]), weights(*sampled[:2]), strict=True)
    assert not all(torch.allclose(a, b, atol=1e-5, rtol=1e-4) for a, b in pairs)
    for elbo in (None, Trace_ELBO(), TraceMeanField_ELBO(num_particles=2)):
        with pytest.raises(InputError, match="resume with the same options"):
            train(digits, path, images=100, resume=True, elbo=elbo)
    with pytest.raises(InputError, match="elbo must be of class ELBO or None"):
        train(digits, elbo="Trace_ELBO")
    with pytest.raises(InputError, match="ReweightedWakeSleep does not"):
        train(digits, elbo=ReweightedWakeSleep())


def test_a_state_knows_what_it_is_a_state_of(digits, tmp_path):
    path = tmp_path / "state.pt"

    def weighted(beta):
        bound = Trace_ELBO()
        bound.beta = beta  # as a bound of one's own has settings of its own
        return bound

    train(digits, path, epochs=1, images=100, elbo=weighted(1))
    with pytest.raises(InputError, match=r"elbo=.*beta=1.*, not .*beta=9.*: resume with the same"):
        train(digits, path, images=100, elbo=weighted(9), resume=True)
    for table, other in ((torch.zeros(5000), torch.ones(5000)), (weighted, train)):
        train(digits, path, epochs=1, images=100, elbo=weighted(table))
        train(digits, path, epochs=1, images=100, elbo=weighted(table), resume=True)
        with pytest.raises(InputError, match=r"elbo=.*: resume with the same options"):
            train(digits, path, images=100, elbo=weighted(other), resume=True)
    train(digits, path, epochs=1, images=100, must_match={"note": None})
    with pytest.raises(InputError, match="note=None, not unset: resume with the same"):
        train(digits, path, images=100, resume=True)
    train(digits, path, epochs=1, images=100)
    train(digits, path, epochs=1, images=100, elbo=Trace_ELBO(), resume=True)  # the default
    model, guide = build_vae(2, architecture="dense")
    options = {"batch_size": 50, "state_path": path, "resume": True, "progress": False}
    rows = (digits.train_images[:100],), (digits.test_images[:50],)
    with pytest.raises(InputError, match="with other test images: resume with the same options"):
        fit(model, guide, rows[0], (digits.test_images[50:100],), **options)
    with pytest.raises(
        InputError, match=r"with guide .*\.MeanField, not .*\.SemiAmortised: resume"
    ):
        fit(model, SemiAmortised(model), *rows, **options)
    with pytest.raises(InputError, match="must_match must not hold 'seed'"):
        fit(model, guide, *rows, must_match={"seed": 0}, **options)


def test_a_training_that_would_train_nothing_is_refused(digits, tmp_path):
    for off in (torch.no_grad(), torch.inference_mode()):
        with off, pytest.raises(InputError, match="gradients are off: call fit outside"):
            train(digits)
    model, guide = build_vae(2)
    model.requires_grad_(False), guide.requires_grad_(False)
    with pytest.raises(InputError, match="nothing to train: no weight of model or guide has"):
        fit(model, guide, (digits.train_images[:50],), epochs=1, progress=False)
    with pytest.raises(InputError, match="is a folder: name a file"):
        train(digits, tmp_path)


def test_one_training_at_a_time(digits):
    """A second would share Pyro's parameters; scores meanwhile are what they are alone."""
    model, guide = build_vae(2)
    x = digits.test_images[:20]
    alone = log_likelihood(model, guide, x, num_samples=20)
    history = []

    class Announced(nn.Module):
        def __init__(self, guide):
            super().__init__()
            self.guide = guide

        def forward(self, x):
            begun.set()
            return self.guide(x)

    def training():
        model, guide = build_vae(2)
        rows = (digits.train_images[:200],)
        history.extend(fit(model, Announced(guide), rows, epochs=2, batch_size=10, progress=False))

    begun = threading.Event()
    thread = threading.Thread(target=training)
    thread.start()
    assert begun.wait(60)
    with pytest.raises(InputError, match="another training runs in this process"):
        train(digits)
    for _ in range(5):
        again = log_likelihood(model, guide, x, num_samples=20)
        assert (again.value == alone.value).all()
    thread.join()
    assert len(history) == 2


def test_a_training_that_begins_moves_no_scores_of_another_thread(digits):
    """It sets the random numbers: not in the middle of another's, as 3 of 6 such scores showed."""
    model, guide = build_vae(2)
    x = digits.test_images[:20]
    alone = log_likelihood(model, guide, x, num_samples=20)
    done, other = threading.Event(), build_vae(2)

    def beginnings():
        while not done.is_set():
            fit(*other, (x,), epochs=0, progress=False)

    thread = threading.Thread(target=beginnings)
    thread.start()
    try:
        for _ in range(10):
            again = log_likelihood(model, guide, x, num_samples=20)
            assert (again.value == alone.value).all()
    finally:
        done.set()
        thread.join()


def test_the_test_images_leave_no_trace_in_the_guide(digits):
    """A layer with running means is moved by the training images alone."""

    class Normed(MeanField):
        def __init__(self, model):
            super().__init__(model)
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x):
            self.norm(x.flatten(1)[:, 300:304])
            return super().forward(x)

    moved = []
    for test in (None, (digits.test_images[:50],)):
        torch.manual_seed(0)
        model, _ = build_vae(2)
        guide = Normed(model)
        fit(model, guide, (digits.train_images[:100],), test, epochs=1, progress=False)
        assert guide.norm.training
        moved.append(guide.norm.running_mean)
    assert not torch.equal(moved[0], torch.zeros(4))
    assert torch.equal(*moved)


def test_gradients_from_before_are_no_part_of_the_training(digits):
    plain = train(digits, epochs=1)
    torch.manual_seed(0)
    model, guide = build_vae(2, architecture="dense")
    for parameter in [*model.parameters(), *guide.parameters()]:
        parameter.grad = torch.ones_like(parameter)
    fit(model, guide, (digits.train_images[:200],), epochs=1, batch_size=50, progress=False)
    for a, b in zip(weights(*plain[:2]), weights(model, guide), strict=True):
        assert torch.equal(a, b)


def test_a_parameter_that_a_step_does_not_reach_has_a_gradient_of_zero():
    """In one process as in several: Adam then counts the same steps for all."""
    late, always = (pyro.param(name, torch.ones(())) for name in ("late", "always"))
    expected = [torch.ones((), requires_grad=True) for _ in range(2)]
    adam = torch.optim.Adam(expected, lr=0.1)
    optim = SingleOptimizer(torch.optim.Adam, 0.1)
    for step in range(4):
        always.grad, late.grad = torch.tensor(2.0), torch.tensor(1.0) if step > 1 else None
        expected[1].grad, expected[0].grad = torch.tensor(2.0), torch.tensor(float(step > 1))
        optim({late, always})
        adam.step()
    assert [late.item(), always.item()] == [w.item() for w in expected]


def test_weights_that_explode_stop_the_training(digits, tmp_path):
    """Pyro refuses a distribution with NaN parameters before there is a loss to look at."""
    with pytest.raises(TrainingError, match="nothing is saved"):
        train(digits, tmp_path / "state.pt", learning_rate=1e30)
    assert list(tmp_path.iterdir()) == []


def test_test_elbo_is_that_of_the_test_images(digits):
    model, guide, history = train(digits, epochs=1)
    expected = log_likelihood(model, guide, digits.test_images[:50], num_samples=1).elbo.mean()
    assert history[-1]["test_elbo"] == pytest.approx(expected, abs=1e-6)


def test_a_function_with_pyro_params_can_be_a_guide(digits, tmp_path):
    """The package's modules register themselves; a plain function registers its own parameters."""
    model, _ = build_vae(2)

    def guide(x):
        loc = pyro.param("loc", torch.zeros(2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 1).to_event(1))

    fit(model, guide, (digits.train_images[:100],), epochs=1, batch_size=50, progress=False)
    assert pyro.param("loc").abs().min() > 0
    with pytest.raises(InputError, match="only modules can be saved"):
        fit(model, guide, (digits.train_images[:100],), state_path=tmp_path / "state.pt")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"epochs": -1}, "epochs must be a whole number >= 0"),
        ({"epochs": 1.5}, "epochs must be a whole number, not 1.5"),
        ({"batch_size": 0}, "batch_size must be a whole number >= 1"),
        ({"learning_rate": 0.0}, "learning_rate must be a number from"),
        ({"learning_rate": math.nan}, "learning_rate must be a number from"),
        ({"seed": 2**32}, "seed must be a whole number from 0"),
    ],
)
def test_wrong_options_are_named(digits, tmp_path, option, message):
    with pytest.raises(InputError, match=message):
        train(digits, tmp_path / "state.pt", **option)
    assert list(tmp_path.iterdir()) == []


def test_wrong_pixels_are_named(digits):
    model, guide = build_vae(2)
    with pytest.raises(InputError, match=r"train: \d+ of \d+ images have pixels outside \[0, 1\]"):
        fit(model, guide, (digits.train_images * 255,), epochs=1, progress=False)


def test_no_epochs_leave_the_weights_as_they_are(digits):
    torch.manual_seed(0)
    before = weights(*build_vae(2, architecture="dense"))
    model, guide, history = train(digits, epochs=0)
    assert history == []
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model, guide), strict=True))


def test_on_epoch_sees_every_record_and_may_end_the_training(digits, tmp_path):
    records = []

    def on_epoch(record):
        records.append(record)
        return record["epoch"] < 2

    path = tmp_path / "state.pt"
    run = train(digits, path, epochs=4, on_epoch=on_epoch)
    assert run[2] == records
    assert [record["epoch"] for record in records] == [1, 2]
    # it has ended: resumed under the same rule, nothing is trained
    again = train(digits, path, epochs=4, resume=True, on_epoch=on_epoch)
    assert_same_bits(run, again)
    # without the rule it goes on, and ends as a run that never had one
    assert_same_bits(train(digits, path, epochs=4, resume=True), train(digits, epochs=4))


@pytest.mark.parametrize(
    ("answer", "epochs"), [(None, 3), (True, 3), (0, 3), (False, 1), (np.bool_(False), 1)]
)
def test_only_false_ends_a_training(digits, answer, epochs):
    assert len(train(digits, epochs=3, on_epoch=lambda record: answer)[2]) == epochs


def test_a_callback_that_fails_loses_no_epoch(digits, tmp_path):
    def fails(record):
        raise KeyError

    path = tmp_path / "state.pt"
    with pytest.raises(KeyError):
        train(digits, path, on_epoch=fails)
    assert_same_bits(train(digits, path, resume=True), train(digits))


def test_a_refused_training_leaves_pyro_and_the_random_numbers_alone(digits, tmp_path):
    pyro.param("users", torch.ones(2))
    torch.manual_seed(5)
    model, guide = build_vae(2, architecture="dense")
    before = torch.get_rng_state()
    with pytest.raises(InputError, match="is a folder"):
        fit(model, guide, (digits.train_images[:50],), state_path=tmp_path, progress=False)
    assert list(pyro.get_param_store()) == ["users"]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_cosine_has_its_number_of_epochs(digits, tmp_path):
    train(digits, tmp_path / "state.pt", epochs=1, schedule="cosine")
    with pytest.raises(InputError, match="epochs=1, not 2"):
        train(digits, tmp_path / "state.pt", epochs=2, schedule="cosine", resume=True)
    with pytest.raises(InputError, match="schedule=cosine, not unset"):
        train(digits, tmp_path / "state.pt", epochs=2, resume=True)


class Seen(nn.Module):
    """A guide that keeps the images it is given."""

    def __init__(self, guide):
        super().__init__()
        self.guide = guide
        self.__dict__["images"] = []  # no setting of the guide

    def forward(self, x):
        if self.training:  # not in the rehearsal
            self.images.append(x.clone())
        self.guide(x)


def test_transform_draws_anew_in_each_step_and_the_same_in_each_run(digits, tmp_path):
    """Dynamic binarisation: black or white, with the grey levels as means, resumed to the bit."""

    def seen(epochs, path=None, resume=False, **options):
        torch.manual_seed(0)
        model, guide = build_vae(2, architecture="dense")
        guide = Seen(guide)
        fit(
            model, guide, (digits.train_images[:100],), epochs=epochs, batch_size=100,
            transform=torch.bernoulli, state_path=path, resume=resume, progress=False, **options,
        )  # fmt: skip
        return guide

    whole = seen(epochs=3)
    x = torch.stack(whole.images)
    assert ((x == 0) | (x == 1)).all()
    assert not torch.equal(x[0].sort(0).values, x[1].sort(0).values)  # but for the order
    mean = digits.train_images[:100].mean()
    se = (mean * (1 - mean) / x[0].numel()).sqrt()
    assert abs(x.mean() - mean) < 5 * se  # grey levels vary: true by more; fails 1 in 10^6
    path = tmp_path / "state.pt"
    seen(1, path)
    resumed = seen(3, path, resume=True)
    assert torch.equal(torch.stack(resumed.images), x[1:])
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        assert torch.equal(a, b)


def test_transform_shares_no_random_numbers_with_the_bound(digits):
    """What the first part of a batch draws after it must not depend on what it has drawn."""
    drawn = []

    def noisy(x):
        drawn.append(torch.rand(3))
        return x

    assert_same_bits(train(digits, transform=noisy), train(digits))
    drawn = torch.stack(drawn)
    assert len(drawn.unique(dim=0)) == len(drawn)
    used = [
        derive_seed(0, epoch, step, part)
        for epoch in range(2) for step in range(4) for part in range(8)
    ]  # fmt: skip
    for seed in used:
        torch.manual_seed(seed)
        assert not (drawn == torch.rand(3)).all(1).any()


@pytest.mark.parametrize("transform", [lambda x: x[:1], lambda x: 3], ids=["a row", "a number"])
def test_a_transform_that_changes_the_number_of_images_is_refused(digits, transform):
    with pytest.raises(
        InputError, match="transform must return a tensor with a row for each of 50"
    ):
        train(digits, transform=transform)


def test_a_resumed_training_must_have_the_same_transform(digits, tmp_path):
    train(digits, tmp_path / "state.pt", epochs=1)
    with pytest.raises(InputError, match="transform=unset, not"):
        train(digits, tmp_path / "state.pt", resume=True, transform=torch.bernoulli)
