"""Question (b): its small functions by hand, and the whole script on the digits."""

import json

import numpy as np
import pytest
import torch

from experiments.question_b import enough, typical
from experiments.question_b.enough import agreement, coverage, of_those_that_pass, z_scores
from experiments.question_b.extremes import extremes
from experiments.question_b.pixels import lowest_shared
from experiments.question_b.shared import spearman
from pyro_vae.likelihood.estimate import Estimate, estimate, exact
from pyro_vae.vae import Vae
from tests.commands import run_script_on_few
from tests.few_digits import TEST_IMAGES


def estimates(value, se):
    blank = np.zeros(len(value))
    return Estimate(np.array(value, float), np.array(se, float), blank, blank, blank, blank, 100)


def test_extremes_are_the_first_and_last_by_score():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=300), np.arange(300) % 10
    overall, by_digit = extremes(scores, labels, 10)
    assert scores[overall[:10]].min() >= np.sort(scores)[-10]
    assert scores[overall[10:]].max() <= np.sort(scores)[9]
    for digit, indices in by_digit.items():
        own = np.sort(scores[labels == digit])
        assert (labels[indices] == digit).all()
        assert scores[indices].tolist() == [*own[-4:][::-1], *own[:4][::-1]]


def test_extremes_of_small_classes():
    """Fewer than eight images are all shown, and a class without any is left out."""
    scores, labels = np.arange(12.0), np.repeat([0, 1, 3], [8, 3, 1])
    _, by_class = extremes(scores, labels, 4)
    assert {label: indices.tolist() for label, indices in by_class.items()} == {
        0: [7, 6, 5, 4, 3, 2, 1, 0],
        1: [10, 9, 8],
        3: [11],
    }
    assert extremes(scores, np.full(12, -1), 0)[1] == {}


def test_holds_and_agreement_count_in_standard_errors():
    rough = estimates([0, 0, 0, 0], [3, 3, 3, 3])
    fine = estimates([1, 9, -9.7, 50], [4, 4, 4, 4])  # both together: 5, and 1.96 times 5 is 9.8
    assert coverage(rough, fine) == 0.75
    assert z_scores(fine, rough) == pytest.approx([0.2, 1.8, -1.94, 10])
    found = agreement(fine, rough)
    assert found["share_within_2_se"] == 0.75
    assert found["median_abs_in_se"] == pytest.approx((1.8 + 1.94) / 2)
    assert found["mc_se"] == pytest.approx(np.sqrt(4 * 25) / 4)


def test_where_all_should_fail_those_that_pass_are_too_low():
    """Weights e^(0.9 t), t exponential: of Pareto shape 0.9 and mean 10; one in five passes."""
    rng = torch.Generator().manual_seed(0)
    log_w = 0.9 * torch.empty(100, 400, dtype=torch.float64).exponential_(generator=rng)
    truth = exact(np.full(400, np.log(10)))
    found = of_those_that_pass(estimate(log_w), truth)
    passing = estimate(log_w).trusted()
    assert 0.1 < passing.mean() < 0.3
    short = np.log(10) - estimate(log_w).value[passing]
    assert found["refined_minus"]["images"] == passing.sum()
    assert found["refined_minus"]["mean"] == pytest.approx(short.mean())
    assert found["refined_minus"]["ci95"][0] > 0.8
    assert found["error_bars_hold_refined"] < 0.05
    few = log_w[:, np.flatnonzero(passing)[:1]]
    assert of_those_that_pass(estimate(few), truth.subset(slice(1))) is None


def test_a_mode_that_annealing_alone_has_found_is_named(monkeypatch):
    """A refined guide that is higher says nothing: annealing is a bound."""
    asked = []
    annealed = estimates([-101.0, -95, -90], [0.2, 0.2, 0.3])
    monkeypatch.setattr(
        enough,
        "annealed_log_likelihood",
        lambda model, guide, *_, **__: asked.append(guide) or annealed,
    )
    refined = estimates([-100.0, -95.1, -99], [0.1, 0.1, 0.4])
    found = enough.from_the_prior(Vae(None, "the encoder"), None, refined)
    assert asked == [None]  # from the prior
    assert found["missed"] == [
        {"image": 2, "refined": -99, "annealed_from_prior": -90, "se_from_prior": 0.3}
    ]
    assert found["largest_z_of_annealed"] == pytest.approx(9 / 0.5)
    assert found["smallest_share_seen"] == pytest.approx(1 - np.exp(-4 * np.hypot(0.2, 0.1)))
    assert found["refined_minus_annealed"]["mean"] == pytest.approx((1 - 0.1 - 9) / 3)


def test_sets_are_random_and_ranked_among_images_of_their_kind(digits, monkeypatch):
    """Scores made up: 2 for black and white images, 1 for grey ones."""
    vae, x = Vae.build(2, architecture="dense"), digits.test_images[:20]
    sets = typical.image_sets(vae, digits, x)
    assert not sets["training images"].equal(digits.train_images[:20])

    def score(vae, x, name):
        binary = ((x == 0) | (x == 1)).flatten(1).all(1).numpy()
        return estimates(1.0 + binary, np.full(len(x), 0.1))

    monkeypatch.setattr(typical, "refined_log_p", score)
    metrics, _ = typical.measure(vae, sets, np.ones(20))
    drawn, upside_down = metrics["model: drawn pixels"], metrics["upside down"]
    assert drawn["ranked_among"] == "test images, binarised"
    assert drawn["likelier_than_a_test_image"] == 0.5  # all are equal
    assert upside_down["ranked_among"] == "test images"
    assert upside_down["likelier_than_a_test_image"] == 0.5


def test_rank_correlation_and_shared_ranks():
    a = np.arange(10.0)
    assert spearman(a, a**3) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)
    assert np.isnan(spearman(a, np.ones(10)))
    assert lowest_shared(a, a, 3) == 1
    assert lowest_shared(a, -a, 3) == 0
    assert lowest_shared(a, np.where(a == 0, 99, a), 3) == pytest.approx(2 / 3)


def test_some_of_an_estimate():
    found = estimates([1, 2, 3], [4, 5, 6]).subset(np.array([2, 0]))
    assert found.value.tolist() == [3, 1]
    assert found.se.tolist() == [6, 4]
    assert found.num_samples == 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    done = run_script_on_few(
        "question_b",
        *("--dataset", "digits", "--epochs", 1, "--images", 20, "--results", results),
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr.replace("FutureWarning", "")
    return results / "digits" / "question_b"


@pytest.mark.scripts
def test_the_script_writes_its_figures_and_metrics(folder):
    figures = ["likely_unlikely", "by_digit", "explained", "features", "enough"]
    figures += ["interventions", "typical", "pixels"]
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{name}.png" for name in figures} | {"metrics.json"}


@pytest.mark.scripts
def test_the_metrics_agree_with_one_another(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["dataset"] == "digits"
    assert metrics["guide_100"]["summary"]["num_images"] == TEST_IMAGES
    assert metrics["guide_100"]["summary"]["num_samples"] == 100
    likely, unlikely = metrics["guide_100"]["likely"], metrics["guide_100"]["unlikely"]
    scores = [shown["score"] for shown in likely + unlikely]
    assert scores == sorted(scores, reverse=True)
    refined = [shown["refined"] for shown in metrics["guide_100"]["unlikely_refined"]]
    assert refined == sorted(refined, reverse=True)
    assert refined[0] <= max(shown["refined"] for shown in unlikely)
    trusted = [shown for shown in likely + unlikely if shown["khat"] < 0.5]
    assert trusted
    for shown in trusted:  # the same image by another guide
        both = np.hypot(shown["se"], shown["refined_se"])
        assert abs(shown["score"] - shown["refined"]) < 6 * both
    found = metrics["enough"]
    curve = found["iwae"]["mean"]
    assert np.diff(curve).min() > -0.01  # rises, but for groups that leave out a remainder
    assert curve[0] < found["refined"]["mean"]
    assert found["simulated"]["upper_minus_lower"]["ci95"][1] > 0
    assert found["from_the_prior"]["missed"] == []
    for change in metrics["interventions"]["changes"].values():
        parts = change["from_the_floor"]["mean"] + change["from_the_excess"]["mean"]
        assert change["score"]["mean"] == pytest.approx(parts)
    assert metrics["interventions"]["changes"]["black and white"]["from_the_floor"]["mean"] > 0
    assert metrics["typical"]["inverted"]["mean"] < metrics["typical"]["test images"]["mean"]
    # Jensen's inequality, as far as three copies of each image can tell
    assert metrics["pixels"]["mean_of_binarised_minus_grey"]["ci95"][1] > 0
