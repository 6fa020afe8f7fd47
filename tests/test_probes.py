import numpy as np
import pytest

from pyro_vae.probes import linear_probe, neighbour_probe, tree_probe


def rings(count, seed):
    """Two labels on rings around each other: near latents agree, and no line parts them."""
    random = np.random.default_rng(seed)
    y = random.integers(2, size=count)
    turn = random.uniform(0, 2 * np.pi, count)
    return (1 + 2 * y)[:, None] * np.column_stack([np.cos(turn), np.sin(turn)]), y


def test_rings_are_read_by_neighbours_and_not_by_a_line():
    seen, unseen = rings(400, 0), rings(400, 1)
    assert neighbour_probe(*seen, *unseen) == 1
    assert linear_probe(*seen, *unseen) < 0.65


def test_a_line_reads_halves_whatever_the_scales():
    random = np.random.default_rng(0)
    z = random.normal(size=(800, 3))
    y = (z @ [1, -2, 0.5] > 0).astype(int)
    z = z * [1, 1e-3, 1e3] + 5
    assert linear_probe(z[:400], y[:400], z[400:], y[400:]) > 0.95


def test_labels_without_a_trace_in_the_latents_are_guessed():
    random = np.random.default_rng(0)
    z, y = random.normal(size=(2000, 3)), random.integers(10, size=2000)
    for probe in (linear_probe, neighbour_probe):
        accuracy = probe(z[:1000], y[:1000], z[1000:], y[1000:])
        assert accuracy == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 1000))


def test_trees_bound_the_mutual_information():
    """y is told by the ring but for a share of 10% at random: I = H(y) - H(y | ring)."""
    random = np.random.default_rng(0)
    (z, y), (other_z, other_y) = rings(4000, 2), rings(4000, 3)
    flip, other_flip = random.random(4000) < 0.1, random.random(4000) < 0.1
    accuracy, nats = tree_probe(z, y ^ flip, other_z, other_y ^ other_flip)
    exact = np.log(2) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9)
    assert accuracy == pytest.approx(0.9, abs=0.03)
    assert exact - 0.1 < nats < exact + 5 * 0.66 / np.sqrt(4000)  # sd of the log loss: 0.66
    nothing = tree_probe(random.normal(size=(4000, 2)), y, other_z, other_y)
    assert nothing[1] < 0.01
