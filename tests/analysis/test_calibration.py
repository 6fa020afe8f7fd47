"""Calibration: a right guide passes, planted mistakes are caught, and the band holds its level."""

import re
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure
from pyro.infer.autoguide import AutoNormal
from scipy import stats

from pyro_vae.analysis.calibration import LEVEL, Calibration, calibrate
from pyro_vae.errors import InputError
from pyro_vae.guides.refined import Refined
from pyro_vae.problems import LinearGaussian

PROBLEM = LinearGaussian(latent_dim=3)
IMAGES = torch.zeros(600, PROBLEM.data_dim).double()


def changed(shift=0.0, scale=1.0):
    """The exact posterior of PROBLEM, moved and stretched along its axes."""

    def guide(x):
        loc, covariance = PROBLEM.posterior(x)
        tril = torch.linalg.cholesky(covariance)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(loc + shift, scale_tril=scale * tril))

    return guide


def two_sided_model(x):
    """|z| is seen with noise: the posterior has a mode at each sign."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1).to_event(1))
        pyro.sample("x", dist.Normal(z.abs(), 0.1).to_event(1), obs=x)


def two_sided(sides):
    """A guide with both modes, or with the positive one alone."""

    def guide(x):
        with pyro.plate("data", len(x)):
            share = torch.tensor([sides - 1.0, 1.0]).double().expand(len(x), 2)
            near = dist.Normal(torch.stack([-x, x], -1)[:, 0] / 1.01, 0.1 / 1.01**0.5)
            z = dist.MixtureSameFamily(dist.Categorical(share), near)
            pyro.sample("z", Flat(z))

    return guide


class Flat(dist.TorchDistribution):
    """A distribution of numbers, as one of vectors with a single entry."""

    arg_constraints: dict = {}  # noqa: RUF012
    support = dist.constraints.real_vector

    def __init__(self, base):
        self.base = base
        super().__init__(base.batch_shape, torch.Size([1]), validate_args=False)

    def expand(self, shape, _instance=None):
        return Flat(self.base.expand(shape))

    def sample(self, sample_shape=()):
        return self.base.sample(sample_shape)[..., None]

    def log_prob(self, value):
        return self.base.log_prob(value[..., 0])


def test_a_right_guide_passes_as_often_as_promised():
    """40 runs at 5%: more than 7 failures have a probability of 0.1%."""
    found = [
        calibrate(PROBLEM.model, PROBLEM.exact_guide, IMAGES[:200], num_draws=19, seed=seed)
        for seed in range(40)
    ]
    failed = sum(one.p_value < LEVEL for one in found)
    assert failed <= 7
    # each number by itself, 200 of them: 5% have p < 5%, within five standard errors
    p = np.concatenate([one.p_values for one in found])
    assert abs((p < LEVEL).mean() - LEVEL) < 5 * np.sqrt(LEVEL * 0.95 / len(p))
    inside = [
        ((one.steps >= one.band[0][:, None]) & (one.steps <= one.band[1][:, None])).all(0)
        for one in found
    ]
    np.testing.assert_array_equal(np.concatenate(inside), p > LEVEL)
    few = Calibration(np.zeros((1, 1), int), ("z",), 1)  # one rank: nothing can leave the band
    assert few.band[0][0] <= few.steps[0, 0] <= few.band[1][0]


@pytest.mark.parametrize(
    "guide",
    [changed(scale=0.8), changed(scale=1.2), changed(shift=0.1), PROBLEM.prior_guide],
    ids=["narrow", "wide", "shifted", "prior"],
)
def test_mistakes_are_caught(guide):
    found = calibrate(PROBLEM.model, guide, IMAGES)
    assert found.p_value < 0.01
    assert str(found).startswith("not calibrated")


def test_a_mode_that_no_draw_has_met_is_caught():
    """k-hat of such a guide is low, and by its weights it is no better."""
    images = torch.zeros(600, 1).double()
    assert calibrate(two_sided_model, two_sided(2), images).p_value > 0.01
    one_mode = calibrate(two_sided_model, two_sided(1), images)
    assert one_mode.p_value < 0.01
    assert one_mode.distance[0] == pytest.approx(0.5, abs=0.07)  # half of z are negative
    weighted = calibrate(two_sided_model, two_sided(1), images, num_samples=1000)
    assert weighted.p_value < 0.01


def test_weights_mend_a_guide_that_is_wide():
    wide = changed(scale=1.5)
    assert calibrate(PROBLEM.model, wide, IMAGES).p_value < 0.01
    assert calibrate(PROBLEM.model, wide, IMAGES, num_samples=3000).p_value > 0.01


def test_the_refined_guide_passes():
    refined = Refined(PROBLEM.model, PROBLEM.shifted_guide)
    found = calibrate(PROBLEM.model, refined, IMAGES[:300], num_samples=2000)
    assert found.p_value > 0.01


def test_ranks_by_hand():
    """Three images, L = 3; the band and the verdict in numbers."""
    found = Calibration(np.array([[0, 3], [2, 3], [3, 3]]), ("z", "log p(x, z)"), 3)
    shares = np.array([[1, 0], [1, 0], [2, 0]]) / 3
    np.testing.assert_allclose(found.steps, shares - np.array([[1], [2], [3]]) / 4)
    np.testing.assert_allclose(found.distance, [1 / 3 - 1 / 4 + 1 / 12, 3 / 4])
    assert found.summary()["of"] == "log p(x, z)"
    assert found.summary()["largest_distance"] == 0.75


def test_the_p_value_of_extreme_ranks_is_that_of_the_binomial():
    """All ranks 0 at L = 1: one step, of which the p-value is exact, up to the simulation."""
    found = Calibration(np.zeros((5, 1), int), ("z",), 1)
    exact = stats.binomtest(5, 5, 0.5).pvalue
    assert found.p_value == pytest.approx(exact, abs=5 * np.sqrt(exact / 5000))


def test_latents_of_several_sites_and_with_ties():
    """A discrete latent has many draws equal to the truth: the rank is drawn among them."""

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(torch.tensor(0.3)))
            z = pyro.sample("z", dist.Normal(torch.zeros(2, 1), 1).to_event(2))
            pyro.sample("x", dist.Normal(y[:, None] + 0 * z[..., 0], 1e3).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(torch.tensor(0.3)))
            pyro.sample("z", dist.Normal(torch.zeros(2, 1), 1).to_event(2))

    found = calibrate(model, guide, torch.zeros(600, 2))
    assert found.names == ("y", "z[0]", "z[1]", "log p(x, z)", "distance")
    assert found.p_value > 0.01
    assert found.ranks.max() == 99


def test_the_verdict_says_whether_draws_are_too_narrow_or_too_wide():
    """By hand: 0, 19 and 10 of 20 are two of three coordinates outside the middle 90%."""
    ranks = np.repeat([[0, 19, 19], [19, 19, 19], [10, 19, 19]], 40, 0)
    found = Calibration(ranks, ("z", "log p(x, z)", "distance"), 19)
    assert str(found) == (
        f"not calibrated (p = {found.p_value:.3g}): by log p(x, z), ranks are up to 95% from "
        "uniform; 67% of the coordinates lie outside the middle of the draws, where 10% would be "
        "right"
    )


def test_the_page_about_trust_runs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "trust.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    right, wide = capsys.readouterr().out.strip().split("\n")
    assert right.startswith("calibrated")
    assert wide.startswith("not calibrated")
    assert (tmp_path / "calibration.png").exists()


def labelled(x, y):
    """x = z + a shift that depends on the label."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1).to_event(1))
        pyro.sample("x", dist.Normal(z + 3 * y[:, None], 1).to_event(1), obs=x)


def labelled_guide(x, y):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal((x - 3 * y[:, None]) / 2, 0.5**0.5).to_event(1))


def test_labels_reach_model_and_guide():
    images, labels = torch.zeros(250, 1).double(), torch.arange(250) % 3
    assert calibrate(labelled, labelled_guide, images, labels).p_value > 0.01
    wrong = calibrate(labelled, lambda x, y: labelled_guide(x, 0 * y), images, labels)
    assert wrong.p_value < 0.01


def test_images_of_all_blocks_have_draws_of_their_own():
    """With one seed for all blocks, the ranks of a guide that ignores x would come in pairs."""
    found = calibrate(PROBLEM.model, PROBLEM.prior_guide, IMAGES[:300])
    draws = []

    def guide(x):
        PROBLEM.prior_guide(x)
        with pyro.poutine.block():
            draws.append(pyro.sample("u", dist.Normal(0, 1)).item())

    guide.takes_samples = True
    calibrate(PROBLEM.model, guide, IMAGES[:300])
    assert len({*draws}) >= 3
    assert len(found.ranks) == 300


def test_distances_are_over_all_latents():
    """The second site alone is wrong; by its own coordinate left out, the distance tells."""

    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(torch.zeros(1), 1).to_event(1))
            b = pyro.sample("b", dist.Normal(torch.zeros(1), 1).to_event(1))
            pyro.sample("x", dist.Normal(torch.cat([a, b], -1), 100).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("a", dist.Normal(torch.zeros(1), 0.01).to_event(1))
            pyro.sample("b", dist.Normal(torch.zeros(1), 3).to_event(1))

    found = calibrate(model, guide, torch.zeros(300, 2))
    distance = found.ranks[:, found.names.index("distance")]
    assert distance.mean() < 45  # b's width makes its draws further than the truth; a's nearer


def test_a_guide_far_off_in_many_dimensions_is_caught():
    """The p-value goes below what the simulation can tell: it must, among 302 numbers."""
    wide = LinearGaussian(latent_dim=300, data_dim=2)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.full((300,), 5.0).double(), 1).to_event(1))

    found = calibrate(wide.model, guide, torch.zeros(300, 2).double(), num_draws=19)
    assert found.p_value < 1e-6


@pytest.mark.filterwarnings("ignore:Encountered NaN")
def test_what_cannot_be_ranked_is_said():
    def nothing_but(name):
        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample(name, dist.Normal(torch.zeros(3).double(), 1).to_event(1))

        return guide

    with pytest.raises(InputError, match="misses the model's latent site 'z'"):
        calibrate(PROBLEM.model, nothing_but("u"), IMAGES[:9])

    def small(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1).to_event(1))

    with pytest.raises(InputError, match=r"latent 'z' of an image has shape \(2,\) in the guide"):
        calibrate(PROBLEM.model, small, IMAGES[:9])

    def broken(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3).double(), 1).to_event(1))
            loc = (z[..., :1] / 0.0 * 0.0).expand(*z.shape[:-1], 5)
            pyro.sample("x", dist.Normal(loc, 1, validate_args=False).to_event(1), obs=x)

    for options in ({}, {"num_samples": 1000}):
        with pytest.raises(InputError, match="is NaN at a draw of the guide"):
            calibrate(broken, PROBLEM.prior_guide, IMAGES[:9], **options)


def test_it_is_drawn():
    found = calibrate(PROBLEM.model, PROBLEM.prior_guide, IMAGES[:100])
    figure = found.plot()
    assert isinstance(figure, Figure)
    (ax,) = figure.axes
    assert ax.get_title().startswith("Not calibrated")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [
        "a right guide's, 95% of each", "each coordinate of z", "log p(x, z)", "distance"
    ]  # fmt: skip


def test_wrong_arguments_are_named():
    guide = AutoNormal(PROBLEM.model)
    guide(IMAGES)
    with pytest.raises(InputError, match="guide has numbers of its own for each image"):
        calibrate(PROBLEM.model, guide, IMAGES)
    with pytest.raises(InputError, match="num_samples must be a whole number >= 1000"):
        calibrate(PROBLEM.model, PROBLEM.wide_guide, IMAGES, num_samples=500)
    with pytest.raises(InputError, match="num_draws must be"):
        calibrate(PROBLEM.model, PROBLEM.wide_guide, IMAGES, num_draws=0)
