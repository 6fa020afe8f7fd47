"""Question (d): its small functions by hand, and the whole script on the digits."""

import argparse
import json

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.nn import functional

from experiments.question_d import (
    classification,
    disentanglement,
    failures,
    mistakes,
    styles,
    units,
)
from experiments.question_d.disentanglement import STYLE_FEATURES
from pyro_vae.analysis.judges import Classifier
from pyro_vae.guides.prior import PriorGuide
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.training.fit import fit
from pyro_vae.training.stopping import TrainingError
from pyro_vae.vae import Vae
from tests.autoencoders import build_vae, load_vae, save_vae
from tests.commands import run_script_on_few
from tests.few_digits import TEST_IMAGES

pytestmark = pytest.mark.timeout(600)  # the script takes minutes

CONFIG = {
    "latent_dim": 3,
    "architecture": "per_label",
    "num_classes": 10,
    "guide": "mean_field",
    "prior": "learned",
    "precision": "float32",
    "batch_size": 100,
    "learning_rate": 4e-3,
    "schedule": "one_cycle",
    "batch_parts": 1,
}


def test_every_latent_meets_every_class():
    z = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    latents, y = styles.every_class(z, 7)
    assert latents.shape == (14, 2)
    assert y.tolist() == [*range(7)] * 2
    assert (latents[:7] == z[0]).all()
    assert (latents[7:] == z[1]).all()


def test_accuracy_counts_and_scores():
    log_p = np.log(np.array([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1]]))
    found = classification.accuracy_of(log_p, np.array([0, 1, 1]))
    assert found["accuracy"]["mean"] == pytest.approx(2 / 3)
    assert found["mean_sure"] == pytest.approx((0.8 + 0.6 + 0.9) / 3)
    assert found["mean_log_p_of_label"] == pytest.approx(np.log([0.8, 0.6, 0.1]).mean())


def test_every_mistake_is_shown(digits):
    wrong = {"digit": 2, "read_as": 3, "lead_nats": 0.9, "classifier": 2}
    figure = mistakes.figure(digits, [{"image": i, **wrong} for i in range(11)])
    shown = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    assert len(figure.axes) == 12
    assert len(shown) == 11
    for i, image in enumerate(shown):
        np.testing.assert_array_equal(image, digits.test_images[i, 0])


def test_the_blind_guide_does_not_see_the_label():
    model, _ = build_vae(3, num_classes=10)
    guide = failures.Blind(model)
    x = torch.rand(4, 1, 28, 28)
    first, other = (guide.q(x, torch.full((4,), y)).mean for y in (1, 7))
    assert torch.equal(first, other)


def test_layers_that_start_apart_have_other_weights_for_each_label():
    vae = Vae.build(3, architecture="per_label", num_classes=10)
    weight = vae.model.decoder.f[0].weight  # (128, 10, 3)
    assert (weight == weight[:, :1]).all()
    failures.start_apart(vae)
    assert all((weight[:, 0] != weight[:, label]).all() for label in range(1, 10))
    assert weight.std().item() == pytest.approx(3**-0.5 / 3**0.5, abs=0.02)  # uniform, as Linear's


def test_a_training_that_diverges_is_counted_and_left_out(digits, tmp_path, monkeypatch):
    """Of the second design the first training diverges, of the last all do.

    One without a correlation, where a feature is the same in all images, is counted with the rest.
    """
    names = [*failures.designs(CONFIG)]

    def trained(design, *args, seed, **options):
        at = [*failures.designs(CONFIG).values()].index(design)
        if at == 6 or (at, seed) == (1, 0):
            raise TrainingError("a distribution got parameters that are NaN")
        return at + seed

    def measured(value, *args):
        return {
            "measures": torch.full((len(failures.MEASURES),), float(value)),
            "images": torch.zeros(10, 1, 28, 28),
        }

    monkeypatch.setattr(failures, "trained", trained)
    monkeypatch.setattr(failures, "measured", measured)
    args = argparse.Namespace(failure_epochs=1, failure_seeds=3, images=20, resume=False)
    for args.resume in (False, True):
        found, shown = failures.measure(digits, None, CONFIG, args, tmp_path, torch.device("cpu"))
        assert [found[name]["diverged"] for name in names] == [0, 1, 0, 0, 0, 0, 3]
        assert found[names[1]]["elbo"]["seeds"] == [2, 3]
        assert found[names[6]].keys() == {"diverged"}
        assert shown.keys() == {*failures.SHOWN} - {names[6]}
    args.resume, constant = False, {"measures": torch.tensor([1, 1, 1, 1, torch.nan, 1])}
    monkeypatch.setattr(failures, "measured", lambda *found: measured(*found) | constant)
    found, _ = failures.measure(digits, None, CONFIG, args, tmp_path, torch.device("cpu"))
    assert [found[name]["diverged"] for name in names] == [0, 1, 0, 0, 0, 0, 3]


def test_a_guide_that_says_nothing_has_no_active_unit(digits):
    model, _ = build_vae(3, num_classes=10, prior="learned")
    metrics, _ = units.measure(Vae(model, PriorGuide(model)), digits)
    assert metrics["active"] == 0
    assert len(metrics["activity"]) == 3


def test_the_measures_catch_a_generator_that_ignores_y(digits):
    """The share read as y is then 1 / 10, whatever is read: 200 images, so 0.1 +- 5 x 0.021."""
    model, guide = build_vae(3, num_classes=10)
    with torch.no_grad():
        model.decoder.f[0].weight[:, 3:] = 0
    classifier = Classifier().eval()
    found = disentanglement.measure(Vae(model, guide), digits, classifier, 200)
    assert found["generated"]["mean"] == pytest.approx(0.1, abs=0.106)


def test_the_probes_catch_a_guide_whose_latent_tells_y(digits):
    """And do not cry wolf: 297 images are read by chance right to 0.11 +- 5 x 0.018."""

    def telling(x, y):
        loc = 4.0 * functional.one_hot(y, 10).to(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 1).to_event(1))

    model, _ = build_vae(10, num_classes=10)
    parts = (
        (digits.train_images, digits.train_labels),
        (digits.test_images, digits.test_labels),
    )
    for guide, low, high in ((telling, 0.9, 1.0), (PriorGuide(model), 0.0, 0.2)):
        (z, _), (other_z, _) = (disentanglement.codes(Vae(model, guide), *rows) for rows in parts)
        found = disentanglement.probes(z, parts[0][1], other_z, parts[1][1])
        assert low <= found["best"] <= high
        if guide is telling:  # H(y) = 2.30, all of which a reader could have
            assert 1.5 < found["information_nats_at_least"] < 2.31


@pytest.mark.parametrize("guide", ["mean_field", "full_rank", "spline"])
def test_a_conditional_autoencoder_comes_back_from_its_checkpoint(tmp_path, guide):
    model, q = build_vae(3, num_classes=10, guide=guide)
    config = {"latent_dim": 3, "precision": "float32", "num_classes": 10, "guide": guide}
    save_vae(tmp_path / "some.pt", model, q, config)
    torch.manual_seed(1)
    again, again_q, found = load_vae(tmp_path / "some.pt")
    assert found == config
    x, y, z = torch.rand(4, 1, 28, 28), torch.arange(4), torch.randn(4, 3)
    assert torch.equal(model.decoder(z, y), again.decoder(z, y))
    torch.testing.assert_close(q.q(x, y).log_prob(z), again_q.q(x, y).log_prob(z))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    options = (
        "--dataset",
        "digits",
        "--epochs",
        2,
        "--images",
        20,
        "--failure-epochs",
        1,
        "--failure-seeds",
        1,
    )
    done = run_script_on_few("question_d", *options, "--results", results)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr.replace("FutureWarning", "")
    return results / "digits" / "question_d"


@pytest.mark.scripts
def test_the_script_writes_its_figures_metrics_and_checkpoints(folder):
    figures = ["theory", "styles", "transfer", "digits", "ways", "units", "classification"]
    figures += ["mistakes", "label_worth", "failures"]
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{name}.png" for name in figures} | {"metrics.json", "failures"}
    checkpoints = {path.name for path in (folder.parent / "checkpoints").glob("*.pt")}
    assert {"conditional.pt", "conditional_plane.pt", "classifier.pt"} <= checkpoints


@pytest.mark.scripts
def test_the_metrics_agree_with_one_another(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    theory = metrics["theory"]
    np.testing.assert_allclose(
        theory["log_p_by_perfect_samples"], theory["log_p_by_quadrature"], atol=0.02
    )
    assert max(theory["sd_of_log_weights"]["perfect"]) < 0.2  # cells twice as wide as on record
    fine, coarse = (
        np.mean(theory["sd_of_log_weights"][name]) for name in ("perfect", "perfect_twice_the_step")
    )
    assert 0.4 < fine / coarse < 0.6
    measured = metrics["measures"]
    by_digit = measured["generated"]["by_digit"]
    assert np.mean(by_digit) == pytest.approx(measured["generated"]["mean"])
    read_as = np.array(measured["read_as"])
    assert np.trace(read_as) / read_as.sum() == pytest.approx(measured["generated"]["mean"])
    found = metrics["classification"]
    assert found["with_refined"]["accuracy"]["images"] == TEST_IMAGES
    wrong = round(TEST_IMAGES * (1 - found["with_refined"]["accuracy"]["mean"]))
    assert len(found["mistakes"]) == wrong
    refined = found["with_refined"]
    assert sum(refined["mended_by_fifth"]) + sum(refined["spoilt_by_fifth"]) <= 10  # the doubtful
    spoilt = refined["clear_and_right_spoilt"]
    assert refined["images_scored_again"] == (
        10 + refined["clear_and_wrong_scored_again"] + spoilt["images"]
    )
    before = round(TEST_IMAGES * found["by_samples"]["100"]["accuracy"]["mean"])
    change = found["changes_from_100"]["refined"]
    assert change["mended"] == sum(refined["mended_by_fifth"]) + refined["clear_and_wrong_mended"]
    after = round(TEST_IMAGES * refined["accuracy"]["mean"])
    assert after == before + change["mended"] - change["spoilt"]
    assert found["changes_from_100"].keys() == {"1", "10", "elbo", "local", "refined"}
    assert 0 < found["binarised"]["accuracy"]["mean"] <= 1
    # the refined guide loses little of what 100 samples find (measured: 0.1)
    assert found["every_label_refined"]["rise_own_label"]["mean"] > -0.5
    assert metrics["transfer"].keys() == {"images", *STYLE_FEATURES}
    moved = [metrics["transfer"][feature] for feature in STYLE_FEATURES]
    moved = [one for one in moved if one["correlation"] is not None]
    assert moved  # the height of the small digits is all the same, and so may others be
    for one in moved:
        assert one["ci95"][0] <= one["correlation"] <= one["ci95"][1]
    assert 0 <= metrics["samples_shown"]["read_as_y"] <= metrics["samples_shown"]["images"] == 100
    worth = metrics["label_worth"]
    assert worth["difference"]["mean"] == pytest.approx(
        worth["conditional"]["mean"] - worth["unconditional"]["mean"]
    )
    assert worth["difference"]["mean"] == pytest.approx(
        worth["by_the_label"]["mean"] + worth["by_the_model"]["mean"]
    )
    assert worth["by_the_label"]["mean"] <= np.log(10)
    designs = {name: row for name, row in metrics["failures"].items() if name != "epochs"}
    assert len(designs) == 7
    for row in designs.values():
        assert all(len(row[measure]["seeds"]) == 1 for measure in failures.MEASURES)
    kept = {path.name for path in (folder / "failures").glob("*.pt")}
    assert kept == {f"{design}_0.training.pt" for design in range(7)}


def test_a_tables_own_and_other_entries():
    table = np.arange(20.0).reshape(2, 10)
    own, others = classification.own_and_others(table, np.array([3, 0]))
    assert own.tolist() == [3, 10]
    assert others[0].tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert others[1].tolist() == list(range(11, 20))


def test_local_steps_tighten_the_bound_of_a_wrong_label(digits):
    """The encoder has never seen wrong labels: on average over the images the steps must gain."""
    model, guide = build_vae(3, num_classes=10)
    rows = (digits.train_images[:400], digits.train_labels[:400])
    fit(model, guide, rows, epochs=4, batch_size=20, progress=False)
    vae = Vae(model, guide)
    x, y = digits.test_images[:30], (digits.test_labels[:30] + 1) % 10
    before, after = (
        log_likelihood(model, each, x, y, num_samples=200).elbo
        for each in (guide, classification.with_local_steps(vae))
    )
    assert mean_interval(after - before)["ci95"][0] > 0
