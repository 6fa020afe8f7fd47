"""Files of weights that are damaged, or whole and yet not what they should be."""

import copy
import struct
import zipfile
from argparse import Namespace

import numpy as np
import pytest
import torch

from experiments.trained import trained_classifier
from pyro_vae.errors import InputError
from pyro_vae.guides.prior import PriorGuide
from pyro_vae.guides.refined import Refined
from pyro_vae.guides.semi_amortised import SemiAmortised
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.models import ContinuousBernoulli, Model
from pyro_vae.shards import sharded_log_likelihood
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.tensors import save_tensors
from pyro_vae.training.fit import fit
from pyro_vae.vae import Vae
from tests.autoencoders import build_vae, load_vae, save_vae

MODEL, GUIDE = build_vae(2, architecture="dense")
X = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
CONFIG = {"latent_dim": 2, "precision": "float32", "architecture": "dense"}


def write_checkpoint(folder):
    save_vae(folder / "vae.pt", MODEL, GUIDE, CONFIG)
    return folder / "vae.pt"


def write_state(folder):
    model, guide = copy.deepcopy((MODEL, GUIDE))
    fit(model, guide, (X,), epochs=1, batch_size=2, state_path=folder / "s.pt", progress=False)
    return folder / "s.pt"


def write_block(folder):
    sharded_log_likelihood(folder, MODEL, GUIDE, X, num_samples=2)
    return folder / "images_0000000.pt"


def resume(path):
    model, guide = copy.deepcopy((MODEL, GUIDE))
    options = {"epochs": 2, "batch_size": 2, "resume": True, "progress": False}
    return fit(model, guide, (X,), state_path=path, **options)


# How a file is written, and how it is read.
FILES = {
    "checkpoint": (write_checkpoint, load_vae),
    "state": (write_state, resume),
    "block": (
        write_block,
        lambda path: sharded_log_likelihood(path.parent, MODEL, GUIDE, X, num_samples=2),
    ),
}


def places(path):
    """A byte in the middle of each part of a zip file, by its place in the file."""
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as parts:
        for part in parts.infolist():
            # the local header: 30 bytes, of which the last four are the lengths of what follows
            lengths = struct.unpack_from("<HH", whole, part.header_offset + 26)
            yield part.header_offset + 30 + sum(lengths) + part.file_size // 2


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found(tmp_path, name):
    write, read = FILES[name]
    path = write(tmp_path)
    whole = path.read_bytes()
    for place in places(path):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1
        path.write_bytes(spoilt)
        with pytest.raises(InputError, match="it is damaged or of another program"):
            read(path)
    path.write_bytes(whole)
    read(path)


SPOILT = [
    *(("checkpoint", ("decoder",), value) for value in (3, {}, {"f.0.weight": "a"})),
    *(("checkpoint", ("encoder",), value) for value in (3, [1], {1: X})),
    ("checkpoint", ("family",), [1]),
    ("checkpoint", ("config",), 3),
    *(("checkpoint", ("config", "latent_dim"), value) for value in ("a", 0, 3, None)),
    *(("checkpoint", ("config", "architecture"), value) for value in ("deep", [])),
    ("checkpoint", ("decoder", "f.0.bias"), torch.zeros(400, dtype=torch.complex64)),
    ("checkpoint", ("decoder", "f.0.bias"), torch.zeros(400, dtype=torch.int8)),
    ("checkpoint", ("decoder", "f.0.bias"), torch.full((400,), torch.nan)),
    *(("state", ("position",), value) for value in (3, {}, {"epoch": 1})),
    ("state", ("position", "epoch"), 0),
    ("state", ("position", "step"), "a"),
    ("state", ("position", "total"), None),
    *(("state", ("history",), value) for value in (3, [])),
    *(("state", ("shuffle_generator",), value) for value in (3, X)),
    ("state", ("optimiser",), 3),
    *(("state", ("settings", *name), 3) for name in ((), ("train",), ("guide_kind",))),
    ("state", ("versions",), 3),
    ("state", ("model",), {}),
    *(("block", ("block",), value) for value in (3, {}, {"value": X})),
    ("block", ("block", "value"), torch.zeros(1)),
    ("block", ("settings",), 3),
]


@pytest.mark.parametrize(("name", "keys", "value"), SPOILT)
def test_content_that_does_not_belong_there_is_one_line_that_names_the_file(
    tmp_path, name, keys, value
):
    write, read = FILES[name]
    path = write(tmp_path)
    content = torch.load(path, weights_only=True)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    save_tensors(path, content)
    with pytest.raises(InputError) as found:
        read(path)
    assert str(path) in str(found.value)
    assert len(str(found.value).splitlines()) == 1


def test_a_classifier_that_is_none(tmp_path, digits):
    path = tmp_path / "digits" / "checkpoints" / "classifier.pt"
    save_tensors(path, {"classifier": {}, "config": 3})
    with pytest.raises(InputError, match=r"classifier\.pt has unexpected content"):
        trained_classifier(Namespace(results=tmp_path), digits)


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    path = tmp_path / "some.pt"
    for content in ({"a": np.float64(3)}, {"a": tmp_path}, {"a": lambda: 0}):
        with pytest.raises(InputError, match="content must be tensors, numbers, texts"):
            save_tensors(path, content)
    with pytest.raises(InputError, match="config must hold latent_dim and precision"):
        save_vae(path, MODEL, GUIDE, {"latent_dim": 2})
    options = {"epochs": 1, "progress": False, "state_path": path}
    with pytest.raises(InputError, match="content must be"):
        fit(MODEL, GUIDE, (X,), must_match={"of": np.int64(3)}, **options)
    assert list(tmp_path.iterdir()) == []
    model, guide = copy.deepcopy((MODEL, GUIDE))
    fit(model, guide, (X,), learning_rate=np.float64(1e-3), **options)
    fit(model, guide, (X,), learning_rate=1e-3, resume=True, **options)


def test_a_state_of_other_images_is_refused(tmp_path):
    path = write_state(tmp_path)
    model, guide = copy.deepcopy((MODEL, GUIDE))
    with pytest.raises(InputError, match="was trained with"):
        fit(model, guide, (1 - X,), batch_size=2, state_path=path, resume=True, progress=False)


def refined(**options):
    return Refined(
        MODEL, GUIDE, **{"num_starts": 1, "newton_steps": 1, "samples_per_round": (50,)} | options
    )


def test_blocks_of_another_model_or_guide_are_refused(tmp_path):
    others = [
        (MODEL, PriorGuide(MODEL)),
        (MODEL, GUIDE),
        (MODEL, refined(newton_steps=2)),
        (
            MODEL,
            Refined(
                MODEL, PriorGuide(MODEL), num_starts=1, newton_steps=1, samples_per_round=(50,)
            ),
        ),
        (Model(MODEL.decoder, ContinuousBernoulli), refined()),
        (build_vae(2, architecture="dense")[0], refined()),
    ]
    found = sharded_log_likelihood(tmp_path, MODEL, refined(), X, num_samples=2)
    for model, guide in others:
        with pytest.raises(InputError, match="of another run, with other images, labels, model or"):
            sharded_log_likelihood(tmp_path, model, guide, X, num_samples=2)
    with pytest.raises(InputError, match="is of another run, with num_samples=2, not 3: delete"):
        sharded_log_likelihood(tmp_path, MODEL, refined(), X, num_samples=3)
    again = sharded_log_likelihood(tmp_path, MODEL, refined(), X, num_samples=2)
    np.testing.assert_array_equal(found.value, again.value)


def test_a_fingerprint_is_the_same_after_use():
    for name in ("mean_field", "full_rank", "mixture", "spline", "semi_amortised"):
        model, guide = build_vae(2, architecture="dense", guide=name, prior="learned")
        before = fingerprint(model, guide, Refined(model, guide))
        log_likelihood(model, guide, X, num_samples=2)
        assert fingerprint(*copy.deepcopy((model, guide)), Refined(model, guide)) == before


def test_a_fingerprint_looks_at_all_that_counts():
    long = np.zeros(5000)
    other = np.where(np.arange(5000) == 2500, 1.0, 0.0)  # NumPy's own text leaves it out
    pairs = [(long, other), ([1, 12], [11, 2]), (["a", "bc"], ["ab", "c"]), ({"a": 1}, ["a", 1])]
    for one, another in pairs:
        assert fingerprint(one) != fingerprint(another)
    same, moved = copy.deepcopy(MODEL), copy.deepcopy(MODEL)
    with torch.no_grad():
        moved.decoder.f[0].bias += 1
    assert fingerprint(same) == fingerprint(MODEL) != fingerprint(moved)
    assert fingerprint(same, weights=False) == fingerprint(moved, weights=False)
    inner = copy.deepcopy(GUIDE)
    inner.encoder.precision = "bfloat16"
    assert fingerprint(inner) != fingerprint(GUIDE)


def test_a_fingerprint_of_what_holds_itself_ends():
    parent = copy.deepcopy(GUIDE)
    parent.encoder.parent = [parent]  # a list, so that it is no module of its own child
    assert fingerprint(parent) == fingerprint(copy.deepcopy(parent)) != fingerprint(GUIDE)
    fit(MODEL, parent, (X,), epochs=0, progress=False)


def test_what_the_config_does_not_make_again_is_not_saved(tmp_path):
    """Another likelihood, or a guide of the same shapes, would come back as what it is not."""
    for named, model, guide, config in (
        ("model", Model(MODEL.decoder, ContinuousBernoulli), GUIDE, CONFIG),
        ("guide", MODEL, SemiAmortised(MODEL), CONFIG),
        ("model", MODEL, GUIDE, CONFIG | {"latent_dim": 3}),
        ("guide", *build_vae(2, architecture="dense", guide="full_rank"), CONFIG),
    ):
        with pytest.raises(InputError, match=f"^{named} does not match the config"):
            save_vae(tmp_path / "vae.pt", model, guide, config)
    assert list(tmp_path.iterdir()) == []


def test_saving_and_loading_use_up_no_random_numbers(tmp_path):
    torch.manual_seed(0)
    load_vae(write_checkpoint(tmp_path))
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))


def test_a_checkpoint_is_loaded_as_it_was_saved_whatever_the_default_type(tmp_path):
    path = write_checkpoint(tmp_path)
    torch.set_default_dtype(torch.float64)
    try:
        model, _, _ = load_vae(path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(model.decoder.f[0].weight, MODEL.decoder.f[0].weight)


@pytest.mark.parametrize("content", [b"a thesis", None])
def test_a_training_replaces_no_file_of_another_kind(tmp_path, content):
    """Neither a text nor a checkpoint; a training state of its own it does."""
    path = tmp_path / "mine.pt"
    vae = Vae.build(2, architecture="dense")
    if content is None:
        vae.save(path)
        content = path.read_bytes()
    else:
        path.write_bytes(content)
    x = torch.rand(4, 1, 28, 28)
    options = {"epochs": 1, "state_path": path, "progress": False}
    with pytest.raises(InputError, match=r"is not a training state.*another file"):
        fit(vae.model, vae.guide, (x,), **options)
    assert path.read_bytes() == content
    path.unlink()
    for _ in range(2):
        fit(vae.model, vae.guide, (x,), **options)
