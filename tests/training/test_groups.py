"""Images of two kinds in one training: with labels and without (Kingma et al. 2014, model M2)."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.training.batches import epoch_batches
from pyro_vae.training.fit import fit
from tests.training.programs import PROBLEM, Linear, X, model


def joined(*vectors):
    """Join vectors, those that Pyro has summed over or drawn often too."""
    batch = torch.broadcast_shapes(*(v.shape[:-1] for v in vectors))
    return torch.cat([v.expand(*batch, v.shape[-1]) for v in vectors], -1)


class M2Model(nn.Module):
    """p(y) p(z) N(x; W [z, y], 0.5): y one-hot, observed or latent."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(4, 3)

    def forward(self, x, y=None):
        with pyro.plate("data"):
            y = pyro.sample("y", dist.OneHotCategorical(logits=x.new_zeros(len(x), 2)), obs=y)
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1).to_event(1))
            loc = self.decoder(joined(z, y))
            pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=x)


class M2Guide(nn.Module):
    """q(y | x) q(z | x, y)."""

    def __init__(self):
        super().__init__()
        self.classifier, self.encoder = nn.Linear(3, 2), nn.Linear(5, 4)

    def forward(self, x, y=None):
        with pyro.plate("data"):
            if y is None:
                y = pyro.sample("y", dist.OneHotCategorical(logits=self.classifier(x)))
            loc, tau = self.encoder(joined(x, y)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, (tau / 2).exp()).to_event(1))


def clusters(images, seed):
    """Two clusters that lie 6 standard deviations apart, and their one-hot labels."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(images) % 2
    means = torch.tensor([[1.5, 1.5, 0.0], [-1.5, -1.5, 0.0]])
    return means[y] + 0.7 * torch.randn(images, 3, generator=rng), nn.functional.one_hot(y).float()


LABELLED, PLAIN, HELD_OUT = clusters(20, 0), clusters(200, 1), clusters(100, 2)


def m2(elbo, wrap=lambda guide: guide, epochs=15, **options):
    torch.manual_seed(0)
    model, guide = M2Model(), M2Guide()
    history = fit(
        model, wrap(guide), [LABELLED, PLAIN[:1]], epochs=epochs, batch_size=20,
        learning_rate=0.02, elbo=elbo, progress=False, **options,
    )  # fmt: skip
    return model, guide, history


@pytest.mark.parametrize(
    ("elbo", "wrap"),
    [
        (TraceEnum_ELBO(strict_enumeration_warning=False), config_enumerate),
        (Trace_ELBO(num_particles=2), lambda guide: guide),
    ],
)
def test_m2_learns_from_both_kinds_at_once(elbo, wrap):
    """A tenth of the labels are known, and nearly all are told right."""
    _, guide, history = m2(elbo, wrap)
    x, y = HELD_OUT
    right = guide.classifier(x).argmax(1) == y.argmax(1)
    assert right.float().mean() > 0.95
    assert history[-1]["train_elbo"] > history[0]["train_elbo"] + 1


def weights(*modules):
    return [w for module in modules for w in module.state_dict().values()]


@pytest.mark.parametrize("parts", [1, 2])
def test_a_resumed_training_of_both_kinds_is_exact(tmp_path, parts):
    path = tmp_path / "state.pt"
    options = {"elbo": Trace_ELBO(), "batch_parts": parts}
    whole = m2(epochs=3, **options)
    m2(epochs=1, state_path=path, **options)
    resumed = m2(epochs=3, state_path=path, resume=True, **options)
    assert whole[2] == resumed[2]
    pairs = zip(weights(*whole[:2]), weights(*resumed[:2]), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(InputError, match=r"images=\[20, 200\], not 220"):
        fit(
            M2Model(), M2Guide(), (torch.cat([LABELLED[0], PLAIN[0]]),), state_path=path,
            resume=True, batch_size=20, progress=False,
        )  # fmt: skip


def test_the_elbos_are_means_over_all_images():
    """Of groups of 20 and 60, at weights that hardly move."""
    guide, options = Linear(), {"batch_size": 10, "learning_rate": 1e-12, "progress": False}
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
        runs.append(fit(model, Linear(), train, epochs=2, batch_size=5, progress=False))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ([], "x must hold at least one image"),
        ([()], "x must hold at least one image"),
        ([(X,), (X[:0],)], "x must hold at least one image"),
        ([(X,), (X, X[:3])], "y must have a row for each of 24 images"),
        ([(X,), X], "train must be"),
        ([(X,), (X[:3],)], "smallest batch, 3, not 4"),
    ],
)
def test_each_group_is_checked(train, said):
    with pytest.raises(InputError, match=said):
        fit(model, Linear(), train, epochs=1, batch_size=12, batch_parts=4, progress=False)
