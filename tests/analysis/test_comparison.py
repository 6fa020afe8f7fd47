"""The table of guides: gaps against closed forms, and rows that agree with one another."""

import json
import math
import time

import numpy as np
import pytest
import torch

from pyro_vae.analysis.comparison import as_text, compare, evaluate, pairs, table
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.likelihood.estimate import estimate
from pyro_vae.models import Model
from pyro_vae.networks.appendix import Decoder
from pyro_vae.problems import LinearGaussian
from tests.shared import Numbers


@pytest.fixture(scope="module")
def problem():
    return LinearGaussian(seed=7)  # whose posterior is correlated, so that mean-field misses some


def shifted(problem, x):
    """A mean-field guide off by 0.3 in each mean and 20% too narrow."""
    loc, covariance = problem.posterior(x)
    scale = 0.8 * covariance.diagonal().sqrt().expand(len(x), -1)
    numbers = torch.cat([loc + 0.3, 2 * scale.log()], 1)
    return Numbers(MeanField(Model(Decoder(2))), numbers), loc + 0.3, scale


def test_the_gaps_are_the_closed_forms(problem):
    """With K = 20,000 the ELBOs are exact to 0.01; q* is found to 0.01 (measured), so 0.03."""
    x = problem.data(8)
    guide, loc, scale = shifted(problem, x)
    found = evaluate(problem.model, guide, x, num_samples=20_000, gap_images=5)
    mean, covariance = problem.posterior(x)
    best_scale = torch.linalg.inv(covariance).diagonal().rsqrt().expand(8, -1)
    log_p = problem.log_likelihood(x)
    best = problem.elbo(x, mean, best_scale)
    gaps = found.gaps
    for key, exact in (
        ("approximation", log_p - best),
        ("amortisation", best - problem.elbo(x, loc, scale)),
        ("sum", log_p - problem.elbo(x, loc, scale)),
    ):
        assert gaps[key].shape == (5,)
        np.testing.assert_allclose(gaps[key], exact[:5], atol=0.03)
        assert exact.min() > 0.05  # the tolerance would not hide the gap


def test_a_guide_without_a_family_has_no_gaps(problem):
    x = problem.data(4)
    found = evaluate(problem.model, problem.wide_guide, x, num_samples=200)
    assert list(found.gaps) == ["sum"]
    np.testing.assert_allclose(found.gaps["sum"], found.log_p.value - found.estimate.elbo)
    assert found.parameters == 0
    (row,) = table({"wide": found})
    line = as_text([row]).splitlines()[2]
    assert line.split()[-5:-2] == ["?", "?", "0"]  # neither gap, no weights


def test_rows_and_pairs_agree(problem):
    x = problem.data(20)
    guide, _, _ = shifted(problem, x)
    found = {
        "exact": evaluate(problem.model, problem.exact_guide, x, num_samples=200),
        "shifted": evaluate(problem.model, guide, x, num_samples=200, gap_images=3),
    }
    rows = table(found)
    json.dumps(rows)
    assert rows[0]["elbo_minus_first"]["mean"] == 0
    assert rows[0]["elbo"]["mean"] == pytest.approx(float(problem.log_likelihood(x).mean()))
    assert rows[1]["elbo_minus_first"]["mean"] < -0.1
    assert rows[1]["elbo"]["mean"] < rows[1]["iwae_100"]["mean"] < rows[1]["log_p"]["mean"]
    both = pairs(found)
    assert both["shifted"]["exact"]["elbo"] == rows[1]["elbo_minus_first"]
    assert both["shifted"]["exact"]["iwae_100"] == rows[1]["iwae_100_minus_first"]
    assert both["shifted"]["exact"]["log_p"] == rows[1]["log_p_minus_first"]
    assert both["exact"]["shifted"]["elbo"]["mean"] == -both["shifted"]["exact"]["elbo"]["mean"]
    lines = as_text(rows).splitlines()
    assert {len(line) for line in lines[:4]} == {len(lines[0])}  # columns under their heads
    first, second = lines[2:4]
    assert "*" not in first
    assert "*" in second  # a difference whose interval is clear of zero
    rows[1]["elbo_minus_first"] = {"mean": 0.5, "ci95": [0.2, 0.8]}
    assert "0.50 [0.20, 0.80]*" in as_text(rows)
    rows[0]["calibration"] = {"p_value": 0.4, "largest_distance": 0.03}
    rows[1]["calibration"] = {"p_value": 0.01, "largest_distance": 0.25}
    head, _, first, second, *_ = as_text(rows).splitlines()
    assert head.endswith("ranks off")
    assert first.endswith(" 3%")
    assert second.endswith("25%*")


def test_gaps_below_zero_are_counted(problem):
    """A gap is positive; far below its error's reach, something is wrong."""
    found = evaluate(problem.model, problem.wide_guide, problem.data(2), num_samples=100)
    gaps, errors = {"sum": np.array([-3.5, -2.5])}, {"sum": np.ones(2)}
    (row,) = table({"wide": found._replace(gaps=gaps, gap_errors=errors)})
    assert row["gaps"]["sum"]["least"] == -3.5
    assert row["gaps"]["sum"]["share_below_minus_3_se"] == 0.5


def test_the_seconds_are_those_of_the_samples(problem):
    start = time.perf_counter()
    found = evaluate(problem.model, problem.wide_guide, problem.data(2), num_samples=100)
    assert 0 < found.seconds < time.perf_counter() - start


def test_bad_input_is_named(problem):
    x = problem.data(2)
    for images in (1, 3):
        with pytest.raises(
            InputError, match=f"log_p must be of the 2 images of x, not of {images}"
        ):
            evaluate(problem.model, problem.wide_guide, x, log_p=estimate(torch.zeros(9, images)))
    with pytest.raises(InputError, match="guides must hold at least one"):
        compare(problem.model, {}, x)
    with pytest.raises(InputError, match="num_samples must be a whole number >= 100"):
        evaluate(problem.model, problem.wide_guide, x, num_samples=99)
    with pytest.raises(InputError, match="gap_images must be a whole number >= 1"):
        evaluate(problem.model, problem.wide_guide, x, gap_images=0)


def test_one_call_prints_the_table(problem, capsys):
    x = problem.data(10)
    rows = compare(problem.model, {"exact": problem.exact_guide, "wide": problem.wide_guide}, x)
    assert [row["guide"] for row in rows] == ["exact", "wide"]
    # one refined estimate serves all guides of a model
    assert rows[0]["log_p"] == rows[1]["log_p"]
    assert math.isclose(
        rows[0]["log_p"]["mean"], float(problem.log_likelihood(x).mean()), abs_tol=0.05
    )
    printed = capsys.readouterr().out
    assert "exact" in printed
    assert "wide" in printed
