import numpy as np
import pytest

from pyro_vae.analysis.probes import linear_probe, neighbour_probe, tree_probe


def rings(count, seed):
    """Two labels on rings around each other: near latents agree, and no line parts them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=count)
    turn = rng.uniform(0, 2 * np.pi, count)
    return (1 + 2 * y)[:, None] * np.column_stack([np.cos(turn), np.sin(turn)]), y


def test_rings_are_read_by_neighbours_and_not_by_a_line():
    seen, unseen = rings(400, 0), rings(400, 1)
    assert neighbour_probe(*seen, *unseen) == 1
    assert linear_probe(*seen, *unseen)[0] < 0.65


def test_a_line_reads_halves_whatever_the_scales():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(800, 3))
    y = (z @ [1, -2, 0.5] > 0).astype(int)
    z = z * [1, 1e-3, 1e3] + 5
    assert linear_probe(z[:400], y[:400], z[400:], y[400:])[0] > 0.95


def test_labels_without_a_trace_in_the_latents_are_guessed():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(2000, 3)), rng.integers(10, size=2000)
    halves = (z[:1000], y[:1000], z[1000:], y[1000:])
    (linear, linear_nats), (trees, tree_nats) = linear_probe(*halves), tree_probe(*halves)
    for accuracy in (linear, trees, neighbour_probe(*halves)):
        assert accuracy == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 1000))
    # what is learned of noise (measured: 0.03, 0.01; trees that never stop: 1.6)
    assert -0.05 < linear_nats < 0.01
    assert -0.05 < tree_nats < 0.01


def test_a_line_bounds_the_mutual_information():
    """z ~ N(2 y, 1), y in {0, 1}: the logistic curve is p(y | z) itself, so that I is reached."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=20_000)
    z = 2.0 * y[:, None] + rng.normal(size=(20_000, 1))
    _, nats = linear_probe(z[:10_000], y[:10_000], z[10_000:], y[10_000:])
    grid = np.linspace(-8, 10, 20_001)
    each = np.exp(-0.5 * (grid - np.array([[0], [2]])) ** 2) / np.sqrt(2 * np.pi)
    whole = each.mean(0)
    exact = (each * np.log(each / whole)).mean(0).sum() * (grid[1] - grid[0])
    # its standard error: the sd of log p(y | z), 0.5, over the root of 10,000
    assert nats == pytest.approx(exact, abs=5 * 0.5 / 100)


def test_trees_bound_the_mutual_information():
    """y is told by the ring but for a share of 10% at random: I = H(y) - H(y | ring)."""
    rng = np.random.default_rng(0)
    (z, y), (other_z, other_y) = rings(4000, 2), rings(4000, 3)
    flip, other_flip = rng.random(4000) < 0.1, rng.random(4000) < 0.1
    accuracy, nats = tree_probe(z, y ^ flip, other_z, other_y ^ other_flip)
    exact = np.log(2) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9)
    assert accuracy == pytest.approx(0.9, abs=0.03)
    assert exact - 0.1 < nats < exact + 5 * 0.66 / np.sqrt(4000)  # sd of the log loss: 0.66
    nothing = tree_probe(rng.normal(size=(4000, 2)), y, other_z, other_y)
    assert -0.05 < nothing[1] < 0.01  # measured: -0.03, the noise that was learned


def test_a_label_may_be_any_whole_number():
    y = np.arange(40) % 2
    z = y[:, None] + np.random.default_rng(0).normal(0, 0.1, (40, 2))
    assert linear_probe(z, y, z, y) == linear_probe(z, y * 10**12, z, y * 10**12)
