"""The table of docs/data.md, row by row: what is taken scores as the tensor does."""

import copy
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from pyro_vae import Vae, fit, log_likelihood
from pyro_vae.training.batches import groups_of
from tests.commands import ROOT

BYTES = torch.randint(0, 256, (12, 1, 28, 28), generator=torch.Generator().manual_seed(0)).byte()
BYTES[0, 0, 0, :2] = torch.tensor([0, 255])
X, BLACK = BYTES.float() / 255, BYTES > 127
VAE = Vae.build(2, architecture="dense", precision="float32")


# each source of a row, and the tensor that it stands for
TAKEN = {
    "float tensor": [(X, X)],
    "float array": [(X.numpy(), X), (X.double().numpy(), X)],
    "uint8 tensor or array": [(BYTES, X), (BYTES.numpy(), X), (BLACK.byte(), BLACK.float())],
    "bool tensor or array": [(BLACK, BLACK.float()), (BLACK.numpy(), BLACK.float())],
    "images without a channel, `(B, 28, 28)`": [(X[:, 0], X)],
    "channel last, `(B, 28, 28, 1)`": [(X.movedim(1, -1), X)],
    "list of tensors, arrays or PIL images": [
        ([*X], X),
        ([*X.numpy()], X),
        ([Image.fromarray(image[0].numpy()) for image in BYTES], X),
    ],
    "torch `Dataset`": [(TensorDataset(X), X)],
    "`DataLoader`": [(DataLoader(TensorDataset(X), batch_size=5, shuffle=True), X)],
}


def score(source):
    return log_likelihood(VAE.model, VAE.guide, source, num_samples=3).value


@pytest.mark.parametrize("row", TAKEN)
@pytest.mark.filterwarnings("ignore::pyro_vae.ConversionWarning")
def test_what_is_taken_scores_as_the_tensor_does(row):
    for source, tensor in TAKEN[row]:
        np.testing.assert_array_equal(score(source), score(tensor))


def trained(source):
    vae = copy.deepcopy(VAE)
    history = fit(vae.model, vae.guide, source, source, epochs=1, batch_size=5, progress=False)
    return [record["train_elbo"] for record in history], [record["test_elbo"] for record in history]


@pytest.mark.parametrize("row", TAKEN)
@pytest.mark.filterwarnings("ignore::pyro_vae.ConversionWarning")
def test_what_is_taken_trains_as_the_tensor_does(row):
    for source, tensor in TAKEN[row]:
        assert trained(source) == trained((source,)) == trained(tensor)


@pytest.mark.filterwarnings("ignore::pyro_vae.ConversionWarning")
def test_a_list_is_images_where_that_is_plain_and_else_images_and_labels_or_groups():
    labels = torch.arange(12) % 3
    for pairs in (zip(X, labels.tolist(), strict=True), zip(X, labels, strict=True)):
        assert trained([*pairs]) == trained(X)
    assert trained([*X[:, 0]]) == trained(X)  # without a channel
    assert trained([X]) == trained(X)
    assert trained([X[0]]) == trained(X[:1])
    assert trained([(X[:6],), (X[6:],)]) == trained([[X[:6]], [X[6:]]])
    taking = Vae.build(2, architecture="dense", precision="float32", num_classes=3)
    pairs = [*zip(X, labels.tolist(), strict=True)]
    for train, count in (([X, labels], 1), (pairs, 1), ([(X, labels), (X[:3], labels[:3])], 2)):
        groups = groups_of(train, "train", taking.model, taking.guide)
        assert len(groups) == count
        assert torch.equal(groups[0][0], X)
        assert torch.equal(groups[0][1], labels)


def test_the_table_has_these_rows_and_no_other():
    text = (ROOT / "docs" / "data.md").read_text()
    section = text[text.index("## What is taken as images") :].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \| ", section, re.MULTILINE)
    assert [row for row in rows if row not in ("source", "---")] == [*TAKEN]
