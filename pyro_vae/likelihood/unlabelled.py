"""log p(x) of images whose label is not known: the exact sum over the labels."""

import math

import numpy as np
import torch
from torch import Tensor

from pyro_vae.complaints import one_line_refusals
from pyro_vae.data.conversion import Images, Labels, as_batch, as_labels
from pyro_vae.errors import InputError, check_counts, check_rows, check_seed, checked, describe
from pyro_vae.likelihood.estimate import Estimate, estimate
from pyro_vae.likelihood.importance import blocks_of_weights
from pyro_vae.likelihood.masking import masked
from pyro_vae.likelihood.sites import run
from pyro_vae.memory import memory_kept
from pyro_vae.programs import Program, evaluating
from pyro_vae.progress import Progress, progress_bar
from pyro_vae.seeds import derive_seed, seeded


@checked
@one_line_refusals
@memory_kept()
def unlabelled_log_likelihood(
    model: Program,
    guide: Program,
    x: Images,
    *,
    labels: Labels,
    prior: Tensor | None = None,
    num_samples: int = 100,
    seed: int = 0,
    mask: Tensor | np.ndarray | None = None,
    progress: Progress = None,
) -> Estimate:
    """Estimate log p(x) = log sum_v p(y = v) p(x | y = v) of each image, by programs of `(x, y)`.

    Each label v has K = `num_samples` draws of the guide q(z | x, v). A weight of the estimate is

        w_k = sum_v p(y = v) p(x, z_kv | v) / q(z_kv | x, v),

    whose mean is p(x). A conditional model takes y as given; a half-labelled one, such as Pyro's
    M2, observes y, and its p(x, y = v) has p(y = v) in it.

    Args:
        labels: the values of y, `(C, ...)`, such as `torch.arange(10)`, or `torch.eye(10)` where
            the programs take one-hot labels.
        prior: p(y = v), `(C,)`, for a model that takes y as given; uniform by default.
        mask, progress: as in `log_likelihood`: which pixels are seen, and a bar.

    >>> import torch
    >>> from pyro_vae import Vae, unlabelled_log_likelihood
    >>> vae, x = Vae.build(2, architecture="dense", num_classes=3), torch.zeros(4, 1, 28, 28)
    >>> labels = torch.arange(3)
    >>> unlabelled_log_likelihood(vae.model, vae.guide, x, labels=labels).value.shape
    (4,)
    """
    x = as_batch(model, x, progress=progress)[0]
    labels = as_labels(labels, x)
    check_rows(labels, first="labels")
    check_counts(num_samples=num_samples)
    check_seed(seed)
    program, rows = model, [x]
    if mask is not None:  # x may be anything where it is not seen
        program, _, rows = masked(model, guide, x, mask, ())
    prior = _log_prior(program, rows, labels, prior)
    total = prior.new_full((num_samples, len(x)), -math.inf)
    with progress_bar(progress, len(x) * len(labels), "img") as bar:
        for v, value in enumerate(labels.to(x.device)):
            y = value.expand(len(x), *value.shape)
            seed_v = derive_seed(seed, v)
            blocks = blocks_of_weights(model, guide, [x, y], num_samples, seed_v, mask, None, bar)
            total = torch.logaddexp(total, prior[v] + torch.cat(list(blocks), dim=1))
    return estimate(total)


def _log_prior(model: Program, rows: list[Tensor], labels: Tensor, prior: Tensor | None) -> Tensor:
    """Return log p(y = v), `(C,)`: zeros where the model's own density has it."""
    observes_y = _observes_y(model, rows, labels)
    if observes_y and prior is not None:
        raise InputError("prior must be None: the model observes y, and has a p(y) of its own")
    zeros = torch.zeros(len(labels), dtype=torch.float64, device="cpu")
    if observes_y:
        return zeros
    if prior is None:
        return zeros - math.log(len(labels))
    if prior.shape != labels.shape[:1] or not (prior >= 0).all() or not prior.sum() > 0:
        raise InputError(f"prior must be {len(labels)} shares >= 0, not {describe(prior)}")
    prior = prior.cpu().double()
    return (prior / prior.sum()).log()


def _observes_y(model: Program, rows: list[Tensor], labels: Tensor) -> bool:
    """Whether the model observes y, as it is or in another form, such as one-hot.

    What it observes then changes with y, and holds other numbers than x.
    """
    observed = []
    with torch.no_grad(), evaluating(model):
        for y in (labels[:1], labels[-1:]):
            with seeded(0, rows[0]):
                sites = run(model, [*(tensor[:1] for tensor in rows), y.to(rows[0].device)])
            observed.append({s.name: s.value for s in sites if s.observed})
    first, last = observed
    return any(not torch.equal(value, last[name]) for name, value in first.items())
