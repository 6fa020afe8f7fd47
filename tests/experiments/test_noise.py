"""The noise curves of question (a): their bands are intervals that hold what they promise."""

import numpy as np
import torch
from pyro import poutine

from experiments.question_a import noise
from pyro_vae.likelihood.intervals import proportion_interval
from pyro_vae.vae import Vae
from tests.autoencoders import build_vae


def test_the_bands_are_the_intervals_of_the_shares(digits, monkeypatch):
    """The judge is right by chance, so that the shares are anything from 0 to 1."""
    vae, rng = Vae.build(2, architecture="dense"), np.random.default_rng(0)
    monkeypatch.setattr(noise, "posterior_draws", lambda vae, x: (torch.zeros(len(x), 2), x[:, 0]))
    read = []

    def judge(images):
        read.append(rng.uniform(size=len(images)) < rng.uniform())
        return np.where(read[-1], truth(len(images)), -1)

    def truth(count):
        return labels if count == len(labels) else np.full(count, 1)

    added = {}
    for name, (add, shown, levels) in list(noise.NOISES.items()):

        def record(x, level, rng, name=name, add=add):
            added.setdefault(name, []).append(level)
            return add(x, level, rng)

        monkeypatch.setitem(noise.NOISES, name, (record, shown, levels))

    chosen = noise.random_positions(digits.test_images, 400, noise.SEED)
    labels = digits.test_labels[chosen].numpy()
    shown = noise.Shown(digits.test_images[:1], "a 1", 1)
    curves = noise.measure(vae, shown, digits, judge, 20)
    for name, (_, _, levels) in noise.NOISES.items():
        assert curves[name]["level"] == levels
        assert added[name] == [level for level in levels for _ in curves[name]["share"]]
    expected = [proportion_interval(right) for right in read]
    found = [
        {"mean": curve["share"][name][level], "ci95": curve["share_ci95"][name][level]}
        for curve in curves.values()
        for level in range(len(curve["level"]))
        for name in curve["share"]
    ]
    assert [(row["mean"], row["ci95"]) for row in found] == [
        (row["mean"], row["ci95"]) for row in expected
    ]
    expecting = {"level": levels, "share": [0.5] * len(levels)}
    for axes, curve in zip(
        noise.curves_figure(curves, expecting, "a 1", "digit").axes, curves.values(), strict=True
    ):
        bands = [{*band.get_paths()[0].vertices[:, 1]} for band in axes.collections]
        for name in ("test", "image", "posterior"):  # "nothing" is not drawn
            ends = {*np.ravel(curve["share_ci95"][name])}
            assert ends in [band & ends for band in bands]


def test_a_model_that_expects_specks_scores_replaced_pixels():
    """p(x | z) of a pixel that is replaced with probability 0.3 is 0.15 + 0.7 p."""
    model, guide = build_vae(2)
    vae, x = Vae(model, guide), torch.bernoulli(torch.rand(3, 1, 28, 28))
    z = torch.randn(3, 2)
    expecting = noise.expecting_specks(vae, 0.3)
    trace = poutine.trace(poutine.condition(expecting.model, {"z": z})).get_trace(x)
    white = 0.15 + 0.7 * vae.decode(z)
    expected = torch.where(x == 1, white, 1 - white).log().sum((1, 2, 3))
    trace.compute_log_prob()
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], expected, rtol=1e-4, atol=1e-2)
