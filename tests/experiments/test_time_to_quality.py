"""Time to the appendix's ELBO: what is compared, from which weights, and by which scores."""

import json

import numpy as np
import pytest

from experiments import time_to_quality
from experiments.benchmark.contenders import fresh_weights
from pyro_vae.data.dataset import random_positions
from pyro_vae.likelihood.importance import log_weights
from pyro_vae.likelihood.quadrature import integrate_plane
from pyro_vae.networks.appendix import join_appendix

SETTINGS = {
    "latent_dim": 2, "images": 3, "plain_epochs": 2, "peak": 5e-3, "batch_size": 50,
    "device": "cpu", "precision": "float32",
}  # fmt: skip


def found(elbo, seconds, log_p=None):
    """What `compared` is given of one way: rows are seeds, columns epochs."""
    arrays = {"elbo": elbo, "seconds": seconds, "log_p": elbo if log_p is None else log_p}
    return {name: np.array(array, np.float32) for name, array in arrays.items()}


def test_the_fewest_epochs_that_reach_both_of_the_plain_scores(monkeypatch):
    monkeypatch.setattr(time_to_quality, "PLAIN_EPOCHS", 2)
    ways = {
        "plain": found([[-120, -110], [-121, -108]], [[50, 100], [60, 120]]),
        "3": found([[-110.5], [-108.5]], [[30], [33]]),
        "8": found([[-105], [-104]], [[90], [80]]),
        "4": found([[-110.2], [-107.0]], [[44], [44]], log_p=[[-110.3], [-108.3]]),
    }
    metrics = time_to_quality.compared(ways)
    # the ELBO by the mean over the seeds, though not by the first; log p(x) not
    assert metrics["seconds_an_epoch"] == {"plain": 50, "one_cycle": 10}
    expected = {"epochs": 4, "plain_epochs": 2, "times_as_fast": 100 / 40}
    assert metrics["reached"]["elbo"] == expected
    expected = {"epochs": 8, "plain_epochs": 2, "times_as_fast": 100 / 80}
    assert metrics["reached"]["log_p"] == metrics["both_reached"] == expected
    row = metrics["ways"]["4"]
    assert row["seconds"] == [40]
    assert row["elbo_minus_plain"]["mean"] == pytest.approx(0.4, abs=1e-4)
    assert row["log_p_minus_plain"]["mean"] == pytest.approx(-0.3, abs=1e-4)
    assert row["log_p_minus_plain"]["seeds"] == 2
    json.dumps(metrics)  # of Python's numbers alone
    nowhere = time_to_quality.compared({way: ways[way] for way in ("plain", "3")})
    assert nowhere["both_reached"]["epochs"] is nowhere["both_reached"]["times_as_fast"] is None
    # the plain way may be there before its end
    monkeypatch.setattr(time_to_quality, "PLAIN_EPOCHS", 3)
    ways["plain"] = found([[-120, -107, -110]] * 2, [[50, 100, 150]] * 2)
    again = time_to_quality.compared(ways)["both_reached"]
    assert again == {"epochs": 3, "plain_epochs": 2, "times_as_fast": 100 / 30}


def test_the_scores_are_the_elbo_and_log_p(digits, trained_appendix):
    """log p(x) against quadrature; the ELBO, one sample an image, against 100 within 5 errors."""
    model, guide = trained_appendix
    state = join_appendix(model.decoder.state_dict(), guide.encoder.state_dict())
    scores = time_to_quality.scores(state, digits, SETTINGS)
    chosen = random_positions(digits.test_images, 3, time_to_quality.SEED)
    exact = integrate_plane(model, digits.test_images[chosen], points=81).log_evidence.mean()
    assert scores["log_p"] == pytest.approx(float(exact), abs=0.1)
    log_w = log_weights(model, guide, digits.test_images, num_samples=100)
    error = float((log_w.var(0).sum() ** 0.5) / log_w.shape[1])
    assert error < 1
    assert scores["elbo"] == pytest.approx(float(log_w.mean()), abs=5 * error)


def test_all_ways_start_from_the_weights_of_their_seed(digits, monkeypatch):
    started = []

    def weights(latent_dim, seed):
        started.append((latent_dim, seed))
        return fresh_weights(latent_dim, seed)

    monkeypatch.setattr(time_to_quality, "fresh_weights", weights)
    monkeypatch.setattr(time_to_quality, "scores", lambda *_: {"elbo": -1.0, "log_p": 0.0})
    few = digits._replace(train_images=digits.train_images[:200])
    plain = time_to_quality.plain(few, SETTINGS, 5)
    cycle = time_to_quality.one_cycle(few, SETTINGS, 1, 5)
    assert started == [(2, 5), (2, 5)]
    assert plain["elbo"].shape == plain["log_p"].shape == plain["seconds"].shape == (2,)
    assert 0 < plain["seconds"][0] < plain["seconds"][1]
    assert cycle["seconds"].shape == (1,)
    assert cycle["seconds"] > 0


def test_each_plain_training_has_random_numbers_of_its_own(digits, monkeypatch):
    seeds = []
    monkeypatch.setattr(time_to_quality, "scores", lambda *_: {"elbo": -1.0, "log_p": 0.0})
    monkeypatch.setattr(time_to_quality, "derive_seed", lambda *given: seeds.append(given) or 0)
    few = digits._replace(train_images=digits.train_images[:100])
    for seed in (0, 1):
        time_to_quality.plain(few, SETTINGS, seed)
    assert len({*seeds}) == 2


def test_a_cycle_has_its_peak_and_its_epochs(digits, monkeypatch):
    asked = []

    def fit(*_, on_epoch, **options):
        asked.append(options)
        for epoch in range(options["epochs"]):
            on_epoch(epoch)

    monkeypatch.setattr(time_to_quality, "fit", fit)
    monkeypatch.setattr(time_to_quality, "scores", lambda *_: {"elbo": -1.0, "log_p": 0.0})
    time_to_quality.one_cycle(digits, SETTINGS, 3, 5)
    options = {"batch_size": 50, "learning_rate": 5e-3, "schedule": "one_cycle", "seed": 5}
    assert asked == [{"epochs": 3, **options}]


def test_an_epoch_beside_other_work_does_not_count():
    rows = [{"elbo": -1.0, "log_p": 0.0}] * 3
    found = time_to_quality._rows(rows, [10.0, 90.0, 12.0])
    assert found["seconds"].tolist() == [12, 24, 36]
    assert time_to_quality._rows(rows[:1], [10.0, 90.0, 12.0])["seconds"].tolist() == [36]
