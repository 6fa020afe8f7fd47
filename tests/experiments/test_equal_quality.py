"""Trainings in pairs: what is compared, what is kept of a run that stopped."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from experiments import equal_quality
from experiments.benchmark import contenders
from experiments.kept import made_once
from pyro_vae.data.dataset import random_positions
from pyro_vae.errors import InputError
from pyro_vae.likelihood.quadrature import integrate_plane
from pyro_vae.networks.appendix import join_appendix
from pyro_vae.storage.tensors import save_tensors
from tests.commands import main_of, run_main

OPTIONS = ["--dataset", "digits", "--pairs", "3", "--images", "20", "--latent-dim", "2"]
SETTINGS = {"latent_dim": 2, "images": 2, "device": "cpu"}


def scored(**log_p):
    """What `compared` is given: the scores of the ways, and a k-hat that is low throughout."""
    return {way: {"log_p": one, "khat": np.full(one.shape, 0.1)} for way, one in log_p.items()}


def test_the_interval_is_over_pairs():
    """Of images it would be a tenth as wide here: all images of a pair differ by the same."""
    rng = np.random.default_rng(0)
    plain = rng.normal(-100, 20, (4, 50))
    apart = np.array([0.5, -1.0, 2.0, 0.1])
    ours = plain + apart[:, None] + rng.normal(0, 0.1, (4, 50))
    ways = equal_quality.compared(scored(plain=plain, sampled=ours, closed=plain - 1))["ways"]
    found = ways["sampled"]["minus_plain"]
    np.testing.assert_allclose([row["mean"] for row in found["of_pairs"]], apart, atol=0.1)
    assert found["mean"] == pytest.approx(apart.mean(), abs=0.1)
    low, high = stats.t.interval(0.95, 3, apart.mean(), stats.sem(apart))
    assert found["ci95"] == pytest.approx([low, high], abs=0.1)
    assert found["pairs"] == 4
    assert found["sd"] == pytest.approx(apart.std(ddof=1), abs=0.1)
    assert ways["closed"]["minus_plain"]["mean"] == pytest.approx(-1)
    assert ways["plain"] == {"log_p": pytest.approx(plain.mean(1).tolist()), "share_trusted": 1.0}


@pytest.fixture(scope="module")
def exact(digits, trained_appendix):
    """log p(x) of the two images that are scored, by quadrature."""
    chosen = random_positions(digits.test_images, 2, equal_quality.SEED)
    plane = integrate_plane(trained_appendix[0], digits.test_images[chosen], points=81)
    return plane.log_evidence


@pytest.mark.parametrize("way", equal_quality.WAYS)
def test_scores_are_log_p_after_the_training(digits, trained_appendix, exact, monkeypatch, way):
    """Against quadrature, with the weights of a trained autoencoder put in for the training's."""
    model, guide = trained_appendix
    state = join_appendix(model.decoder.state_dict(), guide.encoder.state_dict())
    monkeypatch.setitem(equal_quality.WAYS, way, lambda *_: state)
    found = equal_quality.scores(way, 0, digits, SETTINGS)
    assert found["log_p"].dtype == torch.float64
    np.testing.assert_allclose(found["log_p"], exact, atol=0.02)
    assert found["khat"].shape == (2,)
    assert (found["khat"] < 0.7).all()


@pytest.mark.parametrize("way", equal_quality.WAYS)
def test_each_pair_has_random_numbers_of_its_own(digits, way):
    start = contenders.fresh_weights(2, 0)
    settings = {"epochs": 1, "precision": "float32"}
    first, same, other = (
        equal_quality.WAYS[way](digits.train_images[:300], start, settings, pair)
        for pair in (0, 0, 1)
    )
    assert all(torch.equal(w, same[name]) for name, w in first.items())
    assert not all(torch.equal(w, other[name]) for name, w in first.items())
    assert not all(torch.equal(w, start[name]) for name, w in first.items())


def test_all_ways_start_from_the_same_weights_and_pairs_from_others(digits, monkeypatch):
    started = {}

    class Started(Exception):
        pass

    def recorder(way):
        def record(images, start, settings, pair):
            started[way, pair] = start
            raise Started

        return record

    for way in equal_quality.WAYS:
        monkeypatch.setitem(equal_quality.WAYS, way, recorder(way))
    for way in equal_quality.WAYS:
        for pair in (0, 1):
            with pytest.raises(Started):
                equal_quality.scores(way, pair, digits, SETTINGS)
    for pair in (0, 1):
        first, *others = (started[way, pair] for way in equal_quality.WAYS)
        for other in others:
            assert all(torch.equal(w, other[name]) for name, w in first.items())
    first, other = (started["closed", pair]["f.f.0.weight"] for pair in (0, 1))
    assert not torch.equal(first, other)


def test_each_way_has_a_bound_and_random_numbers_of_its_own(digits, monkeypatch):
    numbers, bounds = [], []
    monkeypatch.setattr(equal_quality, "derive_seed", lambda *given: numbers.append(given) or 0)
    monkeypatch.setattr(
        equal_quality, "fit", lambda *_, elbo, **__: bounds.append(type(elbo).__name__)
    )
    announce_and_load = contenders.fresh_weights(2, 0)
    for train in equal_quality.WAYS.values():
        for pair in (0, 1):
            train(
                digits.train_images[:100],
                announce_and_load,
                {"epochs": 1, "precision": "float32"},
                pair,
            )
    assert len(set(numbers)) == 6
    assert bounds == ["Trace_ELBO"] * 2 + ["TraceMeanField_ELBO"] * 2


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-0.2, 0.29), "equal within 0.3 nats"),
        ((0.31, 2.0), "further apart than"),
        ((-2.0, -0.31), "further apart than"),
        ((-0.31, 0.1), "not shown"),
        ((0.1, 0.31), "not shown"),
    ],
)
def test_the_verdict_is_of_the_whole_interval(ends, said):
    assert equal_quality.verdict(*ends).startswith(said)


@pytest.fixture
def work(monkeypatch):
    """What `main` asks to be trained and scored, in place of the work."""
    asked = []

    def scores(way, pair, data, settings):
        asked.append((way, pair))
        log_p = torch.linspace(-100, -90, settings["images"]).double() + pair + (way == "closed")
        khat = torch.full_like(log_p, 0.1)
        khat[: 2 if way == "closed" else 0] = 0.9  # of all 20
        return {"log_p": log_p, "khat": khat}

    monkeypatch.setattr(equal_quality, "scores", scores)
    return asked


def start(folder, *options):
    run_main(main_of("equal_quality"), *OPTIONS, "--results", folder, *options)
    (metrics,) = folder.rglob("metrics.json")
    return json.loads(metrics.read_text())


def test_resume_does_only_what_is_missing(tmp_path, work):
    whole = start(tmp_path)
    ways = ("plain", "sampled", "closed")
    assert work == [(way, pair) for pair in range(3) for way in ways]
    means = [row["mean"] for row in whole["ways"]["closed"]["minus_plain"]["of_pairs"]]
    assert means == pytest.approx([1, 1, 1])
    assert [whole["ways"][way]["share_trusted"] for way in ways] == pytest.approx([1, 1, 0.9])
    work.clear()
    (one,) = tmp_path.rglob("closed_1.training.pt")
    one.unlink()
    again = start(tmp_path, "--resume")
    assert work == [("closed", 1)]
    assert again["ways"] == whole["ways"]
    work.clear()
    for left in tmp_path.rglob("*_2.training.pt"):
        left.with_name(left.name.replace("2", "3")).write_bytes(b"of an earlier run of more pairs")
    start(tmp_path)
    assert len(work) == 9
    assert list(tmp_path.rglob("*_3.training.pt")) == []  # or --resume would take them


def test_resume_refuses_the_scores_of_another_run(tmp_path, capsys, work):
    start(tmp_path)
    (metrics,) = tmp_path.rglob("metrics.json")
    before = metrics.read_bytes()
    options = [*OPTIONS, "--results", tmp_path, "--resume", "--epochs", "2"]
    with pytest.raises(SystemExit) as stop:
        run_main(main_of("equal_quality"), *options)
    assert stop.value.code == 2
    assert "is of a run with other options: delete it" in capsys.readouterr().err
    assert metrics.read_bytes() == before


@pytest.mark.parametrize("name", ["log_p", "khat"])
@pytest.mark.parametrize(
    "wrong", [torch.full((20,), torch.nan), torch.zeros(19), "scores", None, [0.0] * 20]
)
def test_scores_that_are_none_are_refused(tmp_path, name, wrong):
    settings = {"images": 20}
    path = tmp_path / "closed_0.training.pt"
    scores = {"log_p": torch.zeros(20), "khat": torch.zeros(20)} | {name: wrong}
    save_tensors(path, scores | {"settings": settings})
    again = made_once(tmp_path, settings, True, {"log_p", "khat"})
    with pytest.raises(InputError, match="has unexpected content"):
        again("closed_0", lambda: pytest.fail("made again"), (20,))


def test_the_figure_shows_every_pair():
    plain = np.random.default_rng(0).normal(-100, 1, (3, 50))
    metrics = equal_quality.compared(scored(plain=plain, sampled=plain - 1, closed=plain + 0.1))
    metrics |= {"epochs": 5, "images": 50}
    figure = equal_quality.quality_figure(metrics)
    figure.draw_without_rendering()
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == [*"012", "mean"]


def test_the_learning_rate_of_all_falls_alike(digits, monkeypatch):
    """At every step, to zero: the plain loop's is Adam's own, ours is set by `fit`."""
    rates = {way: [] for way in equal_quality.WAYS}
    step = torch.optim.Adam.step

    def recorded(self, *args, **options):
        rates[way].append(self.param_groups[0]["lr"])
        return step(self, *args, **options)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    announce_and_load = contenders.fresh_weights(2, 0)
    for way in rates:
        settings = {"epochs": 2, "precision": "float32"}
        equal_quality.WAYS[way](digits.train_images[:300], announce_and_load, settings, 0)
    expected = [1e-3 * (1 + math.cos(math.pi * number / 6)) / 2 for number in range(6)]
    assert rates == {way: pytest.approx(expected) for way in rates}
