"""The published table: its networks, its binarised images, its comparison, and the whole script."""

import json

import numpy as np
import pyro
import pytest
import torch

from experiments.published import CELLS, __main__, networks, training
from pyro_vae.errors import InputError
from pyro_vae.likelihood.importance import log_weights
from tests.commands import run_script_on_few


def test_the_networks_are_those_of_the_paper():
    """784-200-200-50 and back, in tanh; sizes counted by hand."""
    programs = networks.Published(torch.full((784,), 0.25))
    encoder = 784 * 200 + 200 + 200 * 200 + 200 + 200 * 100 + 100
    decoder = 50 * 200 + 200 + 200 * 200 + 200 + 200 * 784 + 784
    assert sum(w.numel() for w in programs.parameters()) == encoder + decoder
    assert [type(layer).__name__ for layer in programs.decoder] == [
        "Linear", "Tanh", "Linear", "Tanh", "Linear"
    ]  # fmt: skip
    torch.testing.assert_close(programs.decoder[-1].bias.sigmoid(), torch.full((784,), 0.25))


def test_log_weights_are_the_densities_written_out():
    torch.manual_seed(0)
    programs = networks.Published(torch.full((784,), 0.5))
    x = torch.bernoulli(torch.full((2, 784), 0.5))
    with torch.no_grad():
        found = log_weights(programs.model, programs.guide, x, num_samples=3, seed=4)
        trace = pyro.poutine.trace(programs.guide).get_trace(x)
        z = trace.nodes["z"]["value"]
        loc, log_scale = programs.encoder(x).chunk(2, -1)
        q = torch.distributions.Normal(loc, log_scale.exp()).log_prob(z).sum(-1)
        p = torch.distributions.Normal(0, 1).log_prob(z).sum(-1)
        logits = programs.decoder(z)
        p += (x * logits - torch.nn.functional.softplus(logits)).sum(-1)
        trace.compute_log_prob()
        held = pyro.poutine.trace(pyro.poutine.condition(programs.model, {"z": z})).get_trace(x)
        held.compute_log_prob()
    torch.testing.assert_close(trace.nodes["z"]["log_prob"], q)
    torch.testing.assert_close(held.nodes["z"]["log_prob"] + held.nodes["x"]["log_prob"], p)
    # of the same program: the bound's average is that of the densities written out
    assert found.shape == (3, 2)
    assert (found - (p - q)).abs().max() < 200


def test_images_are_drawn_once_by_their_grey_levels(digits):
    x = __main__.binarised(digits)
    assert x.shape == (len(digits.test_images), 784)
    assert {*x.unique().tolist()} == {0, 1}
    assert x.equal(__main__.binarised(digits))
    grey = digits.test_images.flatten(1)
    error = (grey * (1 - grey)).sum().sqrt() / grey.numel()
    assert abs(x.mean() - grey.mean()) < 5 * error


def test_the_estimators_are_compared_on_the_same_images():
    some = np.array([2, 0])
    samples = {"log_p": np.array([-3.0, -100, -1]), "khat": np.array([0.2, 0.9, 0.3])}
    refined = {"log_p": np.array([-0.5, -2]), "se": np.full(2, 0.1), "trusted": np.ones(2)}
    found = __main__.compared(samples, refined, some)
    assert found["log_p"]["mean"] == pytest.approx(-104 / 3)
    assert found["share_passing"] == pytest.approx(2 / 3)
    assert found["samples_on_the_same"]["mean"] == -2
    assert found["falls_short_by"]["mean"] == pytest.approx(0.75)
    assert found["refined_of_all"] == pytest.approx(-104 / 3 + 0.75)
    assert found["refined"]["mc_se"] == pytest.approx(0.1 / np.sqrt(2))


def test_each_cell_is_trained_by_its_bound(digits, tmp_path, monkeypatch):
    bounds = []

    def note(model, guide, train, *, elbo, **options):
        bounds.append((type(elbo).__name__, elbo.num_particles, options["transform"]))
        return [{"train_elbo": -1.0}]

    monkeypatch.setattr(training, "fit", note)
    for cell in CELLS:
        training.trained(digits, cell, 1, tmp_path, resume=False)
    binarised = torch.bernoulli
    assert bounds == [
        ("Trace_ELBO", 1, binarised), ("IWAE", 5, binarised), ("IWAE", 50, binarised)
    ]  # fmt: skip


def test_another_training_is_not_taken_for_this_one(digits, tmp_path):
    few = digits._replace(train_images=digits.train_images[:200])
    first = training.trained(few, "VAE", 1, tmp_path, resume=True)
    again = training.trained(few, "VAE", 1, tmp_path, resume=True)
    assert first.config == again.config
    with pytest.raises(InputError, match="is of another training: delete it, or leave out"):
        training.trained(few, "VAE", 2, tmp_path, resume=True)
    longer = training.trained(few, "VAE", 2, tmp_path, resume=False)
    assert len(longer.config["history"]) == 2


@pytest.mark.scripts
def test_the_script_from_end_to_end(tmp_path):
    words = ["--dataset", "digits", "--budgets", 1, 1, 1, "--images", 20, "--results", tmp_path]
    done = run_script_on_few("published", *words)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "digits" / "published"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [*metrics["rows"]] == [*CELLS]
    assert sorted(metrics["ranking_by_refined"]) == sorted(CELLS)
    for cell, row in metrics["rows"].items():
        assert row["refined"]["mean"] > row["samples_on_the_same"]["mean"]
        assert row["published"] == CELLS[cell].published
        assert {*row["calibration"]} == {"encoder", "encoder, weighted", "refined, weighted"}
        assert (folder / f"calibration_{cell}_encoder.png").exists()
    assert (folder / "published.png").exists()
