"""Images of two kinds in one training: with labels and without (Kingma et al. 2014, model M2)."""

import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate

from pyro_vae.errors import InputError
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.training.batches import epoch_batches
from pyro_vae.training.fit import fit
from tests.guests import HalfLabelled, clusters
from tests.programs import PROBLEM, LinearGuide

X, model = PROBLEM.data(24), PROBLEM.model


LABELLED, PLAIN, HELD_OUT = clusters(20, 0), clusters(200, 1), clusters(100, 2)


def m2(elbo, wrap=lambda guide: guide, epochs=15, **options):
    torch.manual_seed(0)
    vae = HalfLabelled()
    history = fit(
        vae.model, wrap(vae.guide), [LABELLED, PLAIN[:1]], epochs=epochs, batch_size=20,
        learning_rate=0.02, elbo=elbo, progress=False, **options,
    )  # fmt: skip
    return vae, history


def test_m2_learns_from_both_kinds_at_once():
    """A tenth of the labels are known, and of three kinds 90% are told right.

    The labels that are not known are summed over; tests/test_guests.py samples them.
    """
    vae, history = m2(TraceEnum_ELBO(strict_enumeration_warning=False), config_enumerate)
    x, y = HELD_OUT
    right = vae.classifier(x).argmax(1) == y.argmax(1)
    assert right.float().mean() > 0.9
    assert history[-1]["train_elbo"] > history[0]["train_elbo"] + 1


@pytest.mark.parametrize("parts", [1, 2])
def test_a_resumed_training_of_both_kinds_is_exact(tmp_path, parts):
    path = tmp_path / "state.pt"
    options = {"elbo": Trace_ELBO(), "batch_parts": parts}
    whole, history = m2(epochs=3, **options)
    m2(epochs=1, state_path=path, **options)
    resumed, again = m2(epochs=3, state_path=path, resume=True, **options)
    assert history == again
    pairs = zip(whole.parameters(), resumed.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(InputError, match=r"images=\[20, 200\], not 220"):
        fit(
            resumed.model, resumed.guide, (torch.cat([LABELLED[0], PLAIN[0]]),), state_path=path,
            resume=True, batch_size=20, progress=False,
        )  # fmt: skip


def test_the_elbos_are_means_over_all_images():
    """Of groups of 20 and 60, at weights that hardly move."""
    guide, options = LinearGuide(), {"batch_size": 10, "learning_rate": 1e-12, "progress": False}
    x = PROBLEM.data(80)
    (one,) = fit(model, guide, (x,), [(x[:20],), (x[20:],)], epochs=1, **options)
    (two,) = fit(model, guide, [(x[:20],), (x[20:],)], [(x,)], epochs=1, **options)
    parts = [
        log_likelihood(model, guide, part, num_samples=1).elbo.sum() for part in (x[:20], x[20:])
    ]
    assert one["test_elbo"] == pytest.approx(sum(parts) / 80)
    assert two["test_elbo"] == pytest.approx(
        log_likelihood(model, guide, x, num_samples=1).elbo.mean()
    )
    # 80 losses of one sample each, whose standard deviation is about 10: a factor of 4 is far off
    assert one["train_elbo"] == pytest.approx(two["train_elbo"], rel=0.25)


def test_each_group_is_shuffled_and_cut_and_the_batches_are_mixed():
    batches = epoch_batches([25, 40], 10, torch.Generator().manual_seed(1))
    assert sorted(len(rows) for _, rows in batches) == [5, *[10] * 6]
    for group, size in enumerate([25, 40]):
        rows = torch.cat([rows for number, rows in batches if number == group])
        assert rows.sort().values.tolist() == list(range(size))
        assert rows.tolist() != list(range(size))
    assert [number for number, _ in batches] not in ([0] * 3 + [1] * 4, [1] * 4 + [0] * 3)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(0)).split(10)
    alone = epoch_batches([25], 10, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, (_, b) in zip(order, alone, strict=True))


def test_one_group_in_a_list_is_that_group():
    runs = []
    for train in ((X,), [(X,)], [X]):
        torch.manual_seed(0)
        runs.append(fit(model, LinearGuide(), train, epochs=2, batch_size=5, progress=False))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ([], "train must hold at least one image, as in"),
        ([()], "train must hold at least one image"),
        ([(X,), (X[:0],)], r"train\[1\] must hold at least one image"),
        ([(X,), (X, X[:3])], "y must have a row for each of 24 images"),
        ([(X,), X], r"train\[1\] must be a group, \(x,\) or \(x, y\), not float64 \(24, 5\)"),
        ([(X,), (X[:3],)], "smallest batch, 3, not 4"),
    ],
)
def test_each_group_is_checked(train, said):
    with pytest.raises(InputError, match=said):
        fit(model, LinearGuide(), train, epochs=1, batch_size=12, batch_parts=4, progress=False)
