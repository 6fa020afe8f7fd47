"""The comparison script: the guide of docs/own_guide.md, its figures' numbers, its errors."""

import copy
import json
import math
import re
import shlex
import sys

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments.cli import TRAINING
from experiments.compare_guides.__main__ import of_the_generator, options
from experiments.compare_guides.candidates import Field, warm_start
from experiments.compare_guides.posteriors import integrated, mass_levels, two_posteriors
from experiments.compare_guides.training import known_seconds, train_all
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.guides.prior import PriorGuide
from pyro_vae.models import Model
from pyro_vae.networks.appendix import Decoder
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.tensors import load_tensors
from pyro_vae.training.state import KEYS
from tests.autoencoders import build_vae
from tests.commands import ROOT, check_wrong_option, main_of, run_script


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The example of docs/own_guide.md to the letter, made fast by options added at its end."""
    folder = tmp_path_factory.mktemp("example")
    page = (ROOT / "docs" / "own_guide.md").read_text()
    example = re.search(r"```python\n(# my_guide\.py\n.*?)```.*?```\n(.*?)```", page, re.DOTALL)
    code, command = example.groups()
    assert 8 <= len([line for line in code.splitlines() if line.strip()]) <= 14
    (folder / "my_guide.py").write_text(code)
    python, dash_m, name, *options = shlex.split(command.replace("\\\n", " "))
    shipped = options.index("--checkpoint")  # which is no generator of the small digits
    assert (ROOT / options[shipped + 1]).is_file()
    del options[shipped : shipped + 2]
    assert (python, dash_m) == (".venv/bin/python", "-m")
    fast = ["--dataset", "digits", "--epochs", "2", "--guide-epochs", "1", "--images", "20"]
    done = run_script(
        name.removeprefix("experiments."),
        *(*options, *fast, "--results", folder),
        PYTHONPATH=f"{ROOT}:{folder}",
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.scripts
def test_the_pages_guide_is_in_the_table(results):
    folder, printed = results
    assert re.search(r"^MyGuide +-\d", printed, re.MULTILINE)
    written = folder / "digits" / "compare_guides_frozen_d4"
    assert (written / "guides.png").is_file()
    rows = json.loads((written / "metrics.json").read_text())["rows"]
    assert list(rows) == ["mean_field", "MyGuide", "refined"]
    for row in rows.values():
        assert row["elbo"]["mean"] < row["iwae_100"]["mean"] < row["log_p"]["mean"] + 0.5
        assert row["log_p"]["mean"] == rows["mean_field"]["log_p"]["mean"]
    for name in ("mean_field", "MyGuide"):
        assert {"sum", "approximation", "amortisation"} == set(rows[name]["gaps"])
        assert rows[name]["calibration"]["images"] == 20
        assert len(rows[name]["history"]) == 1


@pytest.mark.slow
def test_at_two_dimensions_the_posterior_is_shown(tmp_path):
    done = run_script(
        "compare_guides",
        *("--dataset", "digits", "--latent-dim", 2, "--epochs", 2, "--guide-epochs", 1),
        *("--guides", "prior,full_rank", "--images", 20, "--frozen-decoder", "--results", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "digits" / "compare_guides_frozen_d2"
    assert (folder / "posteriors.png").is_file()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["exact_minus_refined"]["mean"] == pytest.approx(0, abs=0.05)
    assert metrics["rows"]["prior"]["seconds"]["train"] == 0
    assert metrics["rows"]["full_rank"]["elbo_minus_first"]["mean"] > 0


@pytest.mark.slow
def test_joint_training_gives_each_guide_its_own_generator(tmp_path):
    done = run_script(
        "compare_guides",
        *("--dataset", "digits", "--latent-dim", 2, "--guide-epochs", 1, "--images", 20),
        *("--guides", "mean_field,prior", "--results", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "digits" / "compare_guides_joint_d2"
    rows = json.loads((folder / "metrics.json").read_text())["rows"]
    assert list(rows) == ["mean_field", "prior"]
    assert rows["mean_field"]["log_p"]["mean"] != rows["prior"]["log_p"]["mean"]
    # what another guide did before leaves no trace
    done = run_script(
        "compare_guides",
        *("--dataset", "digits", "--latent-dim", 2, "--guide-epochs", 1, "--images", 20),
        *("--guides", "prior", "--results", tmp_path / "alone"),
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "alone" / "digits" / "compare_guides_joint_d2"
    alone = json.loads((folder / "metrics.json").read_text())["rows"]["prior"]
    assert alone["log_p"] == rows["prior"]["log_p"]
    assert alone["elbo"] == rows["prior"]["elbo"]


@pytest.mark.slow
@pytest.mark.scripts
def test_an_autoguide_is_the_optimum_of_its_family_for_each_image(tmp_path):
    """So its gap to log p(x) is the amortised guide's approximation gap, found in another way.

    Both are searches that may stop short: they agree within 0.3 nats on average.
    """
    done = run_script(
        "compare_guides",
        *("--dataset", "digits", "--latent-dim", 4, "--epochs", 2, "--guide-epochs", 1),
        *("--guides", "mean_field,auto_normal", "--images", 40, "--frozen-decoder"),
        *("--results", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "digits" / "compare_guides_frozen_d4"
    rows = json.loads((folder / "metrics.json").read_text())["rows"]
    gaps = rows["auto_normal"]["gaps"]
    gap = gaps["sum"]["mean"]
    assert gaps["approximation"] == gaps["sum"]
    assert gaps["amortisation"]["mean"] == 0
    assert gap == pytest.approx(rows["mean_field"]["gaps"]["approximation"]["mean"], abs=0.3)
    assert gap < rows["mean_field"]["gaps"]["sum"]["mean"]


def test_an_autoguide_trains_no_generator(tmp_path, capsys):
    words = ["--dataset", "digits", "--latent-dim", 2, "--guides", "auto_normal"]
    message = "has numbers of its own for each image, and trains no generator: add --frozen-decoder"
    check_wrong_option(main_of("compare_guides"), words, message, tmp_path, capsys)


def dreg_options(monkeypatch):
    words = ["--frozen-decoder", "--objective", "dreg", "--particles", "3", "--guide-epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["script", *words])
    return options()


def test_guides_are_trained_by_the_objective_that_is_asked_for(digits, tmp_path, monkeypatch):
    args = dreg_options(monkeypatch)
    args.guide_precision = "float32"
    candidates = {"mean_field": build_vae(2, architecture="dense")}
    few = digits._replace(train_images=digits.train_images[:100])
    train_all(
        Field(candidates, TRAINING, {}, "new", None),
        args,
        few,
        tmp_path,
        few.test_images,
    )
    state = load_tensors(tmp_path / "mean_field.training.pt", "a training state", KEYS)
    bound = state["settings"]["elbo"]
    for part in ("PathELBO(", "importance_weighted=True", "num_particles=3"):
        assert part in bound


def test_the_objective_is_not_asked_of_a_frozen_generator(monkeypatch):
    """Whose checkpoint would be refused otherwise: it was trained by another."""
    args = dreg_options(monkeypatch)
    assert args.given == ["objective", "particles", "guide_epochs"]
    generators = of_the_generator(args)
    assert (generators.objective, generators.particles) == ("elbo", None)
    assert generators.given == ["guide_epochs"]
    assert (args.objective, args.particles) == ("dreg", 3)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise NameError('x')", "cannot be imported: NameError: x"),
        (
            "from pyro_vae.guides import MeanField\n"
            "class Mine(MeanField):\n"
            "    def distribution(self, numbers):\n"
            "        return super().distribution(numbers).base_dist\n",  # no to_event(1)
            "Mine fails on an image with",
        ),
    ],
)
def test_a_guide_of_ones_own_that_fails_does_so_before_any_training(
    tmp_path, monkeypatch, capsys, code, message
):
    (tmp_path / "mine_that_fails.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_that_fails", raising=False)
    options = ["--dataset", "digits", "--guides", "prior,mine_that_fails:Mine"]
    results = tmp_path / "results"
    check_wrong_option(main_of("compare_guides"), options, message, results, capsys)


def test_contours_of_a_gaussian_hold_their_mass():
    """Outside the contour of density c / (2 pi) lies the share c of a standard Gaussian plane."""
    tick = torch.linspace(-6, 6, 241, dtype=torch.float64)
    z = torch.cartesian_prod(tick, tick)
    density = ((-0.5 * z.square().sum(1)).exp() / (2 * math.pi)).numpy()
    cell = float(tick[1] - tick[0]) ** 2
    levels = mass_levels(density, cell)
    assert levels == pytest.approx([0.05 / (2 * math.pi), 0.5 / (2 * math.pi)], rel=0.02)
    seen = density[(z.abs() < 1.5).all(1).numpy()]  # 75% of the mass: no contour of 95%
    assert mass_levels(seen, cell) == pytest.approx([0.5 / (2 * math.pi)], rel=0.02)
    assert mass_levels(density[:100], cell) == []


def test_two_posteriors_by_gap_and_spread():
    gap = np.random.default_rng(0).permutation(101).astype(float)
    spread = np.zeros(101)
    spread[17] = 3
    chosen, names = two_posteriors(gap, spread, ["a 7"] * 101)
    assert gap[chosen[0]] == 50
    assert chosen[1] == 17
    assert names[0] == "typical: a 7\ngap 50.0 nats"


def test_a_warm_start_leaves_the_last_layer_new():
    model = Model(Decoder(3))
    torch.manual_seed(0)
    known, guide = MeanField(model), MeanField(model)
    x = torch.rand(2, 1, 28, 28)
    warm_start(guide, known, x)
    for name, w in guide.encoder.state_dict().items():
        assert torch.equal(w, known.encoder.state_dict()[name]) == (not name.startswith("g.7."))
    warm_start(PriorGuide(model), known, x)  # nothing to start


def test_the_fingerprint_tells_weights_apart():
    model = Model(Decoder(3))
    first = fingerprint(model)
    assert first == fingerprint(copy.deepcopy(model))
    with torch.no_grad():
        model.decoder.f[0].bias[0] += 1e-3
    assert first != fingerprint(model)


@pytest.mark.parametrize("place", [0.0, 7.0])
def test_a_posterior_that_lies_far_out_is_integrated_all_the_same(place):
    """z ~ N(place, 1/4), x ~ N(z_1, 1): x ~ N(place, 5/4)."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.full((2,), place), 0.5).to_event(1))
            pyro.sample("x", dist.Normal(z[..., 0], 1.0), obs=x)

    x = torch.tensor([6.0, 7.5])
    expected = dist.Normal(place, 1.25**0.5).log_prob(x).double()
    found = integrated(model, x, points=81).log_evidence
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_seconds_of_a_resumed_training_are_those_of_just_that_training(tmp_path):
    history = [{"epoch": 1, "train_elbo": -200.0}]
    rows = {"mean_field": {"seconds": {"train": 8.0}, "history": history}}
    (tmp_path / "metrics.json").write_text(json.dumps({"rows": rows}))
    assert known_seconds(tmp_path, "mean_field", history) == 8.0
    longer = [*history, {"epoch": 2, "train_elbo": -190.0}]
    assert known_seconds(tmp_path, "mean_field", longer) is None
    assert known_seconds(tmp_path, "spline", history) is None
    assert known_seconds(tmp_path / "nowhere", "mean_field", history) is None
