"""Question (c): its small functions by hand, and the whole script on the digits."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.question_c import SEED, samples
from experiments.question_c.autoencoders import CONTENDERS, PAIRS, Trained, check_same_training
from experiments.question_c.overfitting import train_against_test
from experiments.question_c.scores import preferred
from experiments.question_c.spread import over_seeds, over_trainings
from pyro_vae.errors import InputError
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.seeds import derive_seed
from pyro_vae.vae import Vae
from tests.commands import run_script_on_few
from tests.few_digits import TEST_IMAGES


def test_seeds_become_mean_and_spread():
    runs = [{"a": 1.0, "b": [0.0, 2.0]}, {"a": 3.0, "b": [0.0, 4.0]}]
    found = over_seeds(runs)
    assert found["a"] == {"mean": 2, "sd": pytest.approx(np.sqrt(2)), "seeds": [1, 3]}
    assert found["b"]["mean"] == [0, 3]
    assert found["b"]["sd"] == [0, pytest.approx(np.sqrt(2))]
    alone = over_seeds(runs[:1])
    assert alone["a"]["mean"] == 1
    assert np.isnan(alone["a"]["sd"])


def test_unpaired_differences_have_welchs_interval():
    rng = np.random.default_rng(0)
    one, other = rng.normal(1, 2, 400), rng.normal(0, 1, 100)
    found = train_against_test(one, other)["train_minus_test"]
    assert found["mean"] == pytest.approx(one.mean() - other.mean())
    half = found["ci95"][1] - found["mean"]
    # 1.96 sqrt(4 / 400 + 1 / 100), as far as the sample variances are those
    assert half == pytest.approx(1.96 * np.sqrt(0.02), rel=0.1)


def test_the_images_that_prefer_one_model_most():
    def vae(*values):
        return Trained(None, None, Estimate(np.array(values), *[None] * 6), {})

    vaes = {"a": [vae(3.0, 0, 1), vae(5.0, 0, 1)], "b": [vae(0.0, 2, 1), vae(0.0, 4, 1)]}
    images, difference = preferred(vaes, "a", "b", 1)
    assert difference.tolist() == [4, -3, 0]
    assert images.tolist() == [0, 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    options = ("--dataset", "digits", "--epochs", 2, "--images", 20, "--seeds", 2)
    done = run_script_on_few("question_c", *options, "--results", results)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr.replace("FutureWarning", "")
    assert "log p(x), refined" in done.stdout
    return results / "digits" / "question_c"


@pytest.mark.scripts
def test_the_script_writes_its_figures_metrics_and_checkpoints(folder):
    figures = ["log_p", "rate_distortion", "preferences", "units", "samples", "maps"]
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{name}.png" for name in figures} | {"metrics.json"}
    checkpoints = {path.name for path in (folder.parent / "checkpoints").glob("*.pt")}
    models = {f"{key}{seed}.pt" for key in CONTENDERS for seed in ("", "_seed1")}
    assert checkpoints - {name for name in checkpoints if "training" in name} == models | {
        "classifier.pt"
    }


@pytest.mark.scripts
def test_the_metrics_agree_with_one_another(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    scores = metrics["scores"]
    for key in CONTENDERS:
        for name in ("elbo", "iwae_100", "log_p"):
            seeds = scores[key][name]["seeds"]
            assert len(set(seeds)) == 2  # two trainings, not the same one twice
            assert scores[key][name]["mean"] == pytest.approx(np.mean(seeds))
        for elbo, iwae in zip(
            *(scores[key][n]["seeds"] for n in ("elbo", "iwae_100")), strict=True
        ):
            assert elbo < iwae
        gap = scores[key]["log_p"]["mean"] - scores[key]["elbo"]["mean"]
        assert scores[key]["elbo_gap"]["mean"] == pytest.approx(gap)
        assert scores["ranking"]["log_p"].count(key) == 1
    for one, other in PAIRS:
        pair = scores["pairs"][f"{one} - {other}"]
        difference = scores[one]["log_p"]["mean"] - scores[other]["log_p"]["mean"]
        assert pair["log_p"]["mean"] == pytest.approx(difference)
        assert pair["log_p_over_trainings"]["mean"] == pytest.approx(difference)
        assert pair["elbo_minus_log_p"]["mean"] == pytest.approx(pair["elbo"]["mean"] - difference)
    for key in CONTENDERS:
        found = metrics["rate_distortion"][key]
        assert (np.diff(found["rate"]) > 0).all()
        assert (np.diff(found["distortion"]) < 0).all()
        # at slope -1 the guide lies above the generator's curve
        one = metrics["rate_distortion"]["beta"].index(1.0)
        rate, distortion = (found["guide_beside_curve"][n]["seeds"] for n in ("rate", "distortion"))
        assert rate[0] + distortion[0] > found["rate"][one] + found["distortion"][one]
        # the same images, other draws of the guide
        elbo = -found["guide"]["rate"]["mean"] - found["guide"]["distortion"]["mean"]
        assert elbo == pytest.approx(scores[key]["elbo"]["mean"], abs=1)
        assert len(metrics["units"][key]["kl"]["mean"]) == metrics["contenders"][key]["latent_dim"]
        assert sum(metrics["samples"][key]["prior"]["class_share"]["mean"]) == pytest.approx(1)
    assert metrics["cost"]["example"]["generator_parameters"] == 20 * 400 + 400 + 400 * 784 + 784
    assert metrics["classifier"]["test_accuracy"] > 0.9
    found = metrics["samples"]
    assert found["training images"]["nearest_is_training"] == 1  # they are copies
    assert found["nearest_is_training_by_chance"] == 1500 / (1500 + TEST_IMAGES)
    pair = scores["pairs"]["d20 - d4"]
    by_class = pair["by_class"].values()
    assert sum(row["preferring_second"] for row in by_class) == pair["preferring_second"]
    total = sum(row["mean"] * row["images"] for row in by_class)
    assert total / pair["log_p"]["images"] == pytest.approx(pair["log_p"]["mean"])
    assert metrics["other_pixels"]["grey"]["d4"]["log_p"]["seeds"] == pytest.approx(
        metrics["scores"]["d4"]["log_p"]["seeds"], abs=20
    )


def test_contenders_that_were_trained_otherwise_are_not_compared():
    alike = {"epochs": 10, "batch_size": 100, "learning_rate": 1e-3, "schedule": "constant"}
    for option, value in (
        ("epochs", 1), ("batch_size", 50), ("learning_rate", 1e-2), ("schedule", "one_cycle")
    ):  # fmt: skip
        configs = {"d4": [alike, alike], "example": [alike, alike | {option: value}]}
        vaes = {key: [Vae(None, None, config) for config in row] for key, row in configs.items()}
        with pytest.raises(InputError, match=f"example was trained with {option}={value} and d4"):
            check_same_training(vaes)
        check_same_training({"d4": vaes["d4"]})


def test_trainings_are_paired_by_seed():
    """Their log p move together: a shift of all but 0.1 nats that both contenders share."""
    shifts = np.array([0.0, -3, 2, 1])
    first = [np.full(5, -100 + shift) for shift in shifts]
    second = [np.full(5, -110 + shift + 0.1 * (n % 2)) for n, shift in enumerate(shifts)]
    found = over_trainings(first, second)
    assert found["mean"] == pytest.approx(9.95)
    low, high = found["ci95"]
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 3, 9.95, stats.sem([10, 9.9] * 2)))
    assert found["trainings"] == 4


def test_draws_of_a_training_are_no_blocks_draws(monkeypatch):
    """Numbers of the prior's images, and those by which a block of images is drawn."""
    seeds = []
    monkeypatch.setattr(samples, "decode", lambda model, z: seeds.append(z))
    vae = Vae.build(2, architecture="dense")
    for training in range(3):
        samples.prior_images(vae, 4, training)
    rng = [torch.Generator().manual_seed(derive_seed(SEED, block)) for block in range(3)]
    of_blocks = [torch.randn(4, 2, generator=one) for one in rng]
    assert not any(z.equal(other) for z in seeds for other in of_blocks)
