"""Nothing that is read from disk runs code."""

import re
from pathlib import Path

import pytest
import torch

from pyro_vae.errors import InputError
from pyro_vae.problems import LinearGaussian
from pyro_vae.shards import sharded_log_likelihood
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae, load_vae, save_vae
from tests.commands import ROOT


class Trap:
    """Read without care, it leaves a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def checkpoint(path, digits):
    model, guide = build_vae(2)
    save_vae(path, model, guide, {"latent_dim": 2, "precision": "float32"})
    return lambda: load_vae(path)


def training_state(path, digits):
    model, guide = build_vae(2)

    def train():
        fit(model, guide, (digits.train_images[:50],), epochs=1, state_path=path, resume=True)

    train()
    return train


def block(path, digits):
    problem = LinearGaussian()

    def score():
        x = problem.data(10)
        sharded_log_likelihood(path.parent, problem.model, problem.wide_guide, x, num_samples=5)

    score()
    return score


@pytest.mark.parametrize("make", [checkpoint, training_state, block])
def test_a_file_that_would_run_code_is_refused_and_does_not(make, digits, tmp_path):
    path, mark = tmp_path / "images_0000000.pt", tmp_path / "mark"
    read = make(path, digits)
    read()  # whole, it is taken
    content = torch.load(path, weights_only=True)
    torch.save(content | {"trap": Trap(mark)}, path)
    with pytest.raises(InputError, match=re.escape(str(path))):
        read()
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # the trap is one


def test_one_place_reads_what_torch_wrote_and_none_unpickles():
    found = [
        (path.name, line.strip())
        for folder in ("pyro_vae", "experiments")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in path.read_text().splitlines()
        if re.search(r"torch\.load\(|pickle|np\.load\(|\b(eval|exec)\(", line)
        and not re.search(r"\.eval\(|^\s*#|except Exception", line)
    ]
    # what is written is read back at once, by the same rules
    assert [name for name, _ in found] == ["tensors.py"] * 2
    assert all("weights_only=True" in line for _, line in found)
