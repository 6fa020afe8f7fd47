"""Progress bars: by default after a few seconds, where someone watches; one at a time."""

import io
import sys
import time
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.utils.data import TensorDataset

from pyro_vae import parallel, progress
from pyro_vae.analysis.calibration import calibrate
from pyro_vae.analysis.comparison import compare
from pyro_vae.analysis.completion import complete
from pyro_vae.data.conversion import as_images
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.annealing import annealed_log_likelihood, bidirectional_bounds
from pyro_vae.likelihood.importance import log_likelihood, log_weights
from pyro_vae.likelihood.unlabelled import unlabelled_log_likelihood
from pyro_vae.problems import LinearGaussian
from pyro_vae.shards import sharded_log_likelihood
from pyro_vae.training.fit import fit
from pyro_vae.vae import Vae
from tests.programs import PROBLEM, LinearGuide

X = PROBLEM.data(6)
MODEL, GUIDE = PROBLEM.model, PROBLEM.wide_guide
SMALL = Refined(MODEL, GUIDE, num_starts=1, newton_steps=1, samples_per_round=(9,))
QUICK = {"num_samples": 5}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def a_terminal(monkeypatch):
    """Make standard error a terminal, and each bar shown at once.

    It is no fixture: pytest puts its own standard error in place when the test begins.
    """
    there = Terminal()
    monkeypatch.setattr(sys, "stderr", there)
    monkeypatch.setattr(progress, "PATIENCE", 0)
    return there


def labelled(x, y):
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 1.0).to_event(1), obs=x)


def labelled_guide(x, y):
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))


SCORED = {
    "log_likelihood": lambda folder, **o: log_likelihood(MODEL, GUIDE, X, **QUICK, **o),
    "log_weights": lambda folder, **o: log_weights(MODEL, GUIDE, X, **QUICK, **o),
    "Vae": lambda folder, **o: Vae(MODEL, GUIDE).log_likelihood(X, **QUICK, **o),
    "unlabelled_log_likelihood": lambda folder, **o: unlabelled_log_likelihood(
        labelled, labelled_guide, X, labels=torch.arange(3), **QUICK, **o
    ),
    "annealed_log_likelihood": lambda folder, **o: annealed_log_likelihood(
        MODEL, GUIDE, X, num_steps=2, **o
    ),
    "bidirectional_bounds": lambda folder, **o: bidirectional_bounds(
        MODEL, GUIDE, X, num_steps=2, **o
    ),
    "sharded_log_likelihood": lambda folder, **o: sharded_log_likelihood(
        folder, MODEL, GUIDE, X, **QUICK, **o
    ),
    "complete": lambda folder, **o: complete(
        MODEL, SMALL, X[:2], torch.arange(5) > 1, num_samples=9, **o
    ),
    "calibrate": lambda folder, **o: calibrate(MODEL, GUIDE, X, num_draws=3, **o),
    "compare": lambda folder, **o: compare(MODEL, {"wide one": GUIDE}, X[:2], **o),
}
scored = pytest.mark.parametrize("score", SCORED.values(), ids=SCORED)


@scored
def test_a_bar_is_shown_in_a_terminal_and_to_its_end(score, monkeypatch, tmp_path):
    terminal = a_terminal(monkeypatch)
    score(tmp_path / "blocks")
    last = [line.rpartition("\r")[2] for line in terminal.getvalue().strip().split("\n")]
    assert last
    assert all("100%" in line for line in last), last


@scored
def test_nothing_is_shown_elsewhere(score, monkeypatch, tmp_path):
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    score(tmp_path / "blocks")
    assert sys.stderr.getvalue() == ""


@scored
def test_false_turns_it_off_and_a_name_shows_it_everywhere(score, monkeypatch, tmp_path):
    terminal = a_terminal(monkeypatch)
    score(tmp_path / "blocks", progress=False)
    assert terminal.getvalue() == ""
    for shown, words in (("a name", "a name"), (True, "")):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        score(tmp_path / f"{shown}", progress=shown)
        assert words in sys.stderr.getvalue() != ""


def test_a_short_wait_shows_nothing(monkeypatch):
    there = Terminal()
    monkeypatch.setattr(sys, "stderr", there)
    log_likelihood(MODEL, GUIDE, X, **QUICK)
    assert there.getvalue() == ""
    monkeypatch.setattr(progress, "PATIENCE", 0.1)
    with progress.progress_bar(None, 3, "img") as bar:
        for _ in range(3):
            bar.update()
            assert there.getvalue() == "" or bar.n > 1
            time.sleep(0.15)
    assert "3/3" in there.getvalue()


def test_compare_names_the_guide(monkeypatch):
    terminal = a_terminal(monkeypatch)
    compare(MODEL, {"wide one": GUIDE}, X[:2])
    assert "wide one: " in terminal.getvalue()


def test_there_is_no_bar_inside_a_bar(monkeypatch):
    """The test images are scored in silence, and the bar of the training is the only one."""
    terminal = a_terminal(monkeypatch)
    fit(MODEL, LinearGuide(), (X,), (X,), epochs=2, progress=True)
    assert "log p" not in terminal.getvalue()
    here = len(terminal.getvalue())
    fit(MODEL, LinearGuide(), (X,), (X,), epochs=2, progress=False)
    assert len(terminal.getvalue()) == here


def test_gathering_has_a_bar(monkeypatch):
    terminal = a_terminal(monkeypatch)
    as_images(TensorDataset(X))
    assert "gathering source: 100%" in terminal.getvalue()


def test_the_bar_of_gathering_is_shown_as_the_call_asks(monkeypatch):
    terminal = a_terminal(monkeypatch)
    data = TensorDataset(X)
    log_likelihood(MODEL, GUIDE, data, **QUICK, progress=False)
    fit(MODEL, LinearGuide(), data, data, epochs=1, progress=False)
    assert terminal.getvalue() == ""
    log_likelihood(MODEL, GUIDE, data, **QUICK, progress="mine")
    assert "mine, gathering x: 100%" in terminal.getvalue()
    fit(MODEL, LinearGuide(), data, epochs=1)
    assert "gathering train: 100%" in terminal.getvalue()


def test_a_notebook_is_watched_and_other_processes_are_not(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not progress.is_watched()
    shell = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert progress.is_watched()
    monkeypatch.delattr(shell, "kernel")  # IPython in a terminal, here in a pipe
    assert not progress.is_watched()
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert progress.is_watched()
    monkeypatch.setattr(parallel, "rank", lambda: 1)
    assert not progress.is_watched()
    monkeypatch.setattr(parallel, "rank", lambda: 0)
    monkeypatch.setattr(sys, "stderr", None)  # a program without a console
    assert not progress.is_watched()


def test_parts_of_the_work_have_names_of_their_own():
    assert progress.part("all", "y = 1") == "all, y = 1"
    assert progress.part(True, "y = 1") == "y = 1"
    assert progress.part(None, "y = 1") is None
    assert progress.part(False, "y = 1") is False


def test_the_problem_is_unchanged_by_a_bar(monkeypatch):
    a_terminal(monkeypatch)
    problem = LinearGaussian()
    silent = log_likelihood(problem.model, problem.wide_guide, X, progress=False, **QUICK)
    shown = log_likelihood(problem.model, problem.wide_guide, X, progress=True, **QUICK)
    assert (silent.value == shown.value).all()
