"""The benchmark's contenders do the same work; what is measured of them by hand; its figure."""

import inspect
import math

import numpy as np
import pytest
import torch

from experiments.benchmark import contenders, effort, growth, machine, scaling, speed, turns
from experiments.benchmark.__main__ import figure as benchmark_figure
from experiments.benchmark.__main__ import tables
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.quadrature import integrate_plane
from pyro_vae.networks.appendix import join_appendix
from pyro_vae.networks.precision import resolve_precision


@pytest.fixture(scope="module")
def state():
    return contenders.fresh_weights(2, seed=0)


@pytest.fixture(scope="module")
def trained_state(trained_appendix):
    """Trained weights but for the guide's deviations, which are doubled: no heavy tails."""
    model, guide = trained_appendix
    state = join_appendix(model.decoder.state_dict(), guide.encoder.state_dict())
    wider = torch.tensor([0, 0, 2 * math.log(2), 2 * math.log(2)])
    return state | {"g.7.bias": state["g.7.bias"] + wider}


@pytest.fixture(scope="module")
def exact(digits, trained_state):
    """Four images, their log p(x) by quadrature, and what 4,000 samples of the guide say of them.

    Of those whose k-hat is low, so that the standard errors mean something (a heavy tail hides from
    them what it holds), the four at which the ELBO misses most.
    """
    model, guide = contenders.ours(trained_state, "float32")
    x = digits.test_images[:12]
    found = log_likelihood(model, guide, x, num_samples=4000)
    chosen = np.where(found.khat < 0.4, found.elbo - found.value, 0).argsort()[:4]
    assert (found.khat[chosen] < 0.4).all()
    log_p = integrate_plane(model, x[chosen], points=81).log_evidence.numpy()
    return x[chosen], log_p, found.subset(chosen)


def sleeper(name):
    """A contender that only says who it is."""
    return lambda: np.full(3, float(name))


@pytest.mark.parametrize(
    "make",
    [
        contenders.plain_likelihood,
        contenders.our_likelihood,
        contenders.pyro_likelihood,
        contenders.refined_likelihood,
        contenders.to_accuracy,
        contenders.pythae_likelihood,
    ],
)
def test_every_contender_estimates_the_same(trained_state, exact, make):
    """Against quadrature: within 5 standard errors; fails for 1 image in 10^6.

    The ELBO, or log p(x | z) without the rest of the weight, are further off.
    """
    if make is contenders.pythae_likelihood:
        pytest.importorskip("pythae")
    x, log_p, by_guide = exact
    torch.manual_seed(0)
    work = 0.05 if make is contenders.to_accuracy else 4000  # the error, or the samples
    found = make(x, trained_state, work)()
    found = getattr(found, "value", found)
    assert found.shape == (4,)
    near = 5 * by_guide.se + 1e-3
    np.testing.assert_array_less(np.abs(found - log_p), near)
    assert (np.abs(by_guide.elbo - log_p) > near).all()


@pytest.mark.parametrize(
    ("make", "options"),
    [(contenders.plain_training, {}), (contenders.our_training, {"precision": "float32"})],
)
def test_training_starts_from_the_weights_given_and_leaves_them(digits, state, make, options):
    before = {name: w.clone() for name, w in state.items()}
    trained = make(digits.train_images[:200], state, **options)()
    assert trained.keys() == state.keys()
    for name, w in state.items():
        assert torch.equal(w, before[name])
        assert not torch.equal(w, trained[name])
        # two steps of Adam at 0.001: none moves a weight by more than about its rate
        assert (w - trained[name]).abs().max() < 0.003


def test_every_contender_takes_the_options_it_is_given(digits, state):
    x = digits.test_images[:2]
    tables = [speed._training(x, state, "cpu"), speed._likelihood(x, state)]
    tables.append(
        {
            way: (make, {"images": x, "state": state, option: work[0]})
            for way, (make, option, work) in effort.WAYS.items()
        }
    )
    for make, options in (entry for table in tables for entry in table.values()):
        inspect.signature(make).bind(**options)


@pytest.mark.scripts
def test_contenders_take_turns_in_processes_of_their_own():
    found = turns.take_turns({"one": (sleeper, {"name": 1}), "two": (sleeper, {"name": 2})}, 3, "")
    assert [len(row["seconds"]) for row in found.values()] == [3, 3]
    assert found["two"]["result"].tolist() == [2, 2, 2]
    if turns.peak_mib() is not None:
        assert all(row["peak_mib"] > 10 for row in found.values())


def writer(path, name):
    """A contender that writes down when it works."""

    def work():
        with path.open("a") as file:
            file.write(name)

    return work


@pytest.mark.slow
def test_each_round_begins_with_another_contender(tmp_path):
    path = tmp_path / "turns"
    contenders = {name: (writer, {"path": path, "name": name}) for name in "ab"}
    turns.take_turns(contenders, 4, "")
    # the first work of a process is not timed, and each process has three rounds
    assert path.read_text() == "ab" + "ab" + "ba" + "ab" + "ab" + "ba"


@pytest.mark.scripts
def test_the_peak_is_the_contenders_own():
    """A parent that holds 600 MB more than its contender."""
    fat = torch.ones(150_000_000)
    found = turns.take_turns({"one": (sleeper, {"name": 1})}, 1, "")
    assert found["one"]["peak_mib"] < turns.peak_mib() - 300
    assert fat[0] == 1


@pytest.mark.scripts
def test_a_contender_that_dies_ends_the_run():
    with pytest.raises(SystemExit, match="the contender 'none' died"):
        turns.take_turns({"none": (sleeper, {"name": "not a number"})}, 1, "")


def test_ratios_are_taken_within_a_round():
    found = {
        "plain": {"seconds": [2.0, 4.0, 6.0], "result": np.zeros(3), "peak_mib": 1.0},
        "ours": {"seconds": [1.0, 1.0, 3.0], "result": np.ones(3), "peak_mib": 2.0},
    }
    row = turns.compared(found, images=12, base="plain")["ours"]
    assert row["images_a_second"] == 12
    assert row["quartiles"] == [8, 12]  # of 12, 12 and 4
    assert row["times_as_fast"] == 2
    assert row["times_as_fast_quartiles"] == [2, 3]  # of 2, 4 and 2
    assert row["log_p_minus_base"]["mean"] == 1
    assert row["peak_mib"] == 2


def test_the_distance_counts_the_arithmetic_of_the_networks(digits, state, monkeypatch):
    monkeypatch.setattr(machine, "median_seconds", lambda work, rounds, device: 0.5)
    found = machine.measure(digits.test_images, state, "cpu")
    # multiply-adds of the decoder at d = 2, layer for layer, and of the encoder
    decoder = 2 * 128 + 128 * 1728 + 12 * 36 * 9 * 100 + 4 * 4 * 9 * 784 + 4 * 784
    encoder = 32 * 9 * 26**2 + 32 * 64 * 9 * 24**2 + 9216 * 128 + 128 * 4
    expected = 2e-6 * (100 * decoder + encoder)
    assert found["log_p_100"]["mflop_an_image"] == pytest.approx(expected, rel=1e-3)
    # a step: each product forward, and twice backward but for the gradient of the images
    low, high = (2e-6 * k * (decoder + encoder) for k in (2.8, 3.0))
    assert low < found["training"]["mflop_an_image"] < high
    for name, images in (("training", len(digits.test_images)), ("log_p_100", 100)):
        flops = 1e-3 * images * found[name]["mflop_an_image"] / 0.5
        assert found[name]["gflops"] == pytest.approx(flops)
    product = pytest.approx(2e-9 * 2048**3 / 0.5)
    kinds = {"float32", resolve_precision("auto", "cpu")}
    assert found["matrix_product_gflops"] == dict.fromkeys(kinds, product)


def test_the_figure_shows_every_contender():
    row = {
        "images_a_second": 100.0,
        "quartiles": [90.0, 110.0],
        "times_as_fast": 2.0,
        "times_as_fast_quartiles": [1.9, 2.1],
        "peak_mib": 500.0,
    }
    metrics = {
        "speed": {key: {"plain": row, "ours": row} for key in speed.TITLES},
        "effort": {d: {"turns": {"plain": row, "ours": row}} for d in ("d4", "d20")},
        "scaling": {"2 x 1": {f"{part}_seconds": {"median": 30.0} for part in ("train", "score")}},
        "distance": {
            "matrix_product_gflops": {"float32": 100.0, "bfloat16": 200.0},
            "training": {"gflops": 90.0},
            "log_p_100": {"gflops": 50.0},
        },
        "growth": {
            what: [{what: n, "seconds": n / 100, "peak_mib": 500.0} for n in (100, 1000)]
            for what in ("images", "samples", "latent dimensions")
        },
    }
    figure = benchmark_figure(metrics)
    for drawn in (figure, growth.figure(metrics["growth"])):
        drawn.draw_without_rendering()
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["plain", "ours"]
    assert speed.as_text(tables(metrics)).count("ours") == 4
    assert "training: 90, log p(x): 50" in machine.as_text(metrics["distance"])
    assert scaling.as_text(metrics["scaling"]).count("30.0") == 2


def test_errors_are_against_the_reference(trained_state, exact, monkeypatch):
    """A way that says what the reference says is off by its error alone; one nat is one nat off."""
    x, log_p, _ = exact
    ways = {
        "right": (lambda images, state, se: lambda: log_p, "se", (1.0,)),
        "one too low": (lambda images, state, se: lambda: log_p - 1, "se", (1.0,)),
    }
    monkeypatch.setattr(effort, "WAYS", ways)
    monkeypatch.setattr(effort, "LOOKS", {name: ("0.5", "o") for name in ways})
    found = effort.curves(x, trained_state, "cpu")
    assert found["reference"]["share_trusted_in_both"] == 1
    assert found["reference"]["largest_difference"] < 0.15  # 5 standard errors of 0.02, twice
    right, low = (found["ways"][name][0] for name in ways)
    assert right["mean_absolute_error"] < 0.08
    assert low["error"]["mean"] == pytest.approx(right["error"]["mean"] - 1)
    assert (right["share_within_0.1"], low["share_within_0.1"]) == (1, 0)
    metrics = {"d2": {"turns": {}, **found}}
    assert effort.as_text(metrics).count("one too low: 1") == 1
    effort.figure(metrics).draw_without_rendering()
