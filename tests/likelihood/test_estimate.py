"""The estimator on arrays alone: NumPy as tensors, parts as wholes, and without Pyro."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from pyro_vae.errors import InputError
from pyro_vae.likelihood.estimate import Estimate, estimate, iwae, sum_of
from pyro_vae.likelihood.psis import khat_threshold, pareto_khat, passes
from tests.commands import ROOT

UNWANTED = ("pyro", "torchvision", "sklearn", "pyro_vae.networks", "pyro_vae.models")


@pytest.fixture(scope="module")
def log_w():
    return torch.randn(200, 5, generator=torch.Generator().manual_seed(0)).double() * 3


def check_equal(a, b):
    for name, array in a._asdict().items():
        np.testing.assert_array_equal(array, getattr(b, name), err_msg=name)


def test_it_imports_neither_pyro_nor_the_networks():
    code = f"import sys, pyro_vae.likelihood.estimate; print(set({UNWANTED}) & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("dtype", ["f8", "f4", ">f8", "longdouble"])
def test_arrays_give_the_same_numbers_as_tensors(log_w, dtype):
    array = log_w.numpy().astype(dtype)
    tensor = torch.from_numpy(array.astype("f4" if dtype == "f4" else "f8"))
    array.flags.writeable = False  # as those of JAX
    check_equal(estimate(array), estimate(tensor))
    np.testing.assert_array_equal(pareto_khat(array), pareto_khat(tensor))
    assert torch.equal(iwae(array, 10), iwae(tensor, 10))
    check_equal(estimate(array[::-1]), estimate(tensor.flip(0)))  # a view with negative strides


def test_parts_join_to_the_whole(log_w):
    whole = estimate(log_w)
    parts = [estimate(log_w[:, :2]), estimate(log_w[:, 2:])]
    check_equal(Estimate.concatenate(parts), whole)
    check_equal(whole.subset(slice(2, None)), parts[1])
    check_equal(whole.subset(np.array([4, 0])), estimate(log_w[:, [4, 0]]))
    for wrong in ([], [whole, estimate(log_w[:50])]):
        with pytest.raises(InputError, match="parts must be estimates, at least one, of equally"):
            Estimate.concatenate(wrong)


def test_a_sum_over_values_has_the_worst_diagnostics_of_those_that_count():
    """Of two values, alike: both count; one has a quarter of a percent; no weight; one is bad."""
    none = -np.inf
    first = Estimate(
        value=np.array([0.0, 0.0, none, 0.0]),
        se=np.array([0.2, 0.2, np.nan, 0.2]),
        ess=np.array([50.0, 50.0, 0.0, 50.0]),
        khat=np.array([0.1, 0.1, np.inf, 0.1]),
        elbo=np.array([-1.0, -1.0, none, -1.0]),
        zero_weights=np.array([0, 0, 100, 0]),
        num_samples=100,
    )
    second = first._replace(
        value=np.array([0.0, -6.0, none, 0.0]),
        se=np.array([0.4, 0.4, np.nan, 0.4]),
        ess=np.array([20.0, 2.0, 0.0, 60.0]),
        khat=np.array([0.3, 0.9, np.inf, 0.9]),
        elbo=np.array([-2.0, -8.0, none, -2.0]),
    )
    found = sum_of([first, second], [np.log(0.5), np.log(0.5)])
    little = np.exp(-6) / (1 + np.exp(-6))
    shares = np.array([[0.5, 1 - little, 0.5], [0.5, little, 0.5]])
    some = [0, 1, 3]
    np.testing.assert_allclose(found.value[some], [0, np.log(0.5 + 0.5 * np.exp(-6)), 0])
    np.testing.assert_allclose(found.se[some], np.hypot(0.2 * shares[0], 0.4 * shares[1]))
    np.testing.assert_array_equal(found.ess, [20, 50, 0, 50])
    np.testing.assert_array_equal(found.khat, [0.3, 0.1, np.inf, np.inf])
    elbos = np.stack([first.elbo[some], second.elbo[some]])
    # v drawn with its share r: E log p(v) p(x, z | v) / r q(z | x, v)
    bound = (shares * (elbos + np.log(0.5) - np.log(shares))).sum(0)
    np.testing.assert_allclose(found.elbo[some], bound)
    assert (found.value[2], found.elbo[2]) == (none, none)
    assert np.isnan(found.se[2])
    assert found.zero_weights.tolist() == [0, 0, 200, 0]
    assert found.num_samples == 200


def test_khat_at_the_threshold_passes():
    limit = khat_threshold(100)
    assert passes(np.array([limit, limit + 1e-12, -np.inf, np.inf]), 100).tolist() == [
        True, False, True, False
    ]  # fmt: skip


def test_an_estimate_shows_itself(monkeypatch):
    """By a line a question, a table in a notebook, a frame, and a figure; no array is dumped."""
    log_w = np.random.default_rng(0).normal(-90, 0.05, (100, 12))
    log_w[0, 3] = 0  # one weight is all
    result = estimate(log_w)
    first, second = repr(result).splitlines()
    assert first.startswith("log p(x) of 12 images: ")
    assert "(95%, over images)" in first
    assert "by 100 samples an image" in first
    assert second.startswith("11 of 12 trusted; not image 3 (k-hat ")
    html = result._repr_html_()
    assert html.count("<tr>") == 1 + 10 + 1
    assert "and 2 more" in html
    frame = result.to_frame()
    assert frame["value"].tolist() == result.value.tolist()
    assert frame["trusted"].sum() == 11
    assert frame.index.name == "image"
    (points, others, line) = result.plot().axes[0].lines
    assert len(points.get_xdata()) == 11
    assert len(others.get_xdata()) == 1
    assert line.get_xdata()[0] == 0.5
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="to_frame needs pandas"):
        result.to_frame()
    alone = repr(result.subset(slice(1)))
    assert len(alone.splitlines()) == 2
    assert "over images" not in alone
    two = repr(result.subset(np.array([3, 0, 3])))
    assert "1 of 3 trusted; not images 0 (k-hat " in two


@pytest.mark.filterwarnings("ignore")  # ArviZ 0.23 uses what matplotlib and pandas deprecate
def test_arviz_takes_an_estimate(monkeypatch):
    arviz = pytest.importorskip("arviz")
    log_w = np.random.default_rng(0).normal(-90, 0.05, (100, 12))
    log_w[0, 3] = 0  # one weight is all
    result = estimate(log_w)
    form = result.to_arviz()
    name = "elpd" if hasattr(form, "elpd") else "elpd_loo"
    assert form[name] == pytest.approx(result.value.sum())
    np.testing.assert_array_equal(form["pareto_k"].values, result.khat)
    assert form["good_k"] == 0.5
    assert form["warning"]
    assert arviz.plot_khat(form) is not None
    better = result._replace(value=result.value + 1).to_arviz()
    table = arviz.compare({"this": form, "better": better})
    assert list(table.index) == ["better", "this"]
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(InputError, match="to_arviz needs ArviZ"):
        result.to_arviz()
