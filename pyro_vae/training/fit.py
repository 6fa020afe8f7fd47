"""Training of any model and guide by SVI, with Trace_ELBO or another bound, with exact resume."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pyro.infer import ELBO, SVI, Trace_ELBO
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from pyro_vae import parallel
from pyro_vae.complaints import one_line_refusals
from pyro_vae.errors import (
    InputError,
    check_choice,
    check_counts,
    check_number,
    check_seed,
    checked,
)
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.programs import Program, modules_of, own_module, unrounded
from pyro_vae.seeds import GLOBAL_STATE_LOCK, seed_everything
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.training.batches import (
    Group,
    epoch_batches,
    groups_of,
    take,
    transform_seed,
)
from pyro_vae.training.divergence import Divergence
from pyro_vae.training.elbo import PartitionedELBO
from pyro_vae.training.handlers import as_trained, check_kl_weight, weight_at
from pyro_vae.training.isolation import isolated
from pyro_vae.training.optimiser import SingleOptimizer
from pyro_vae.training.rehearsal import rehearse
from pyro_vae.training.schedules import BETA2, SCHEDULES
from pyro_vae.training.settings import name_of_function, settings_of
from pyro_vae.training.state import Position, TrainingState
from pyro_vae.training.stopping import StopRequest, any_process, interrupted

Groups = Annotated[
    Tensor | np.ndarray | Dataset | DataLoader | tuple | list,
    "images (a tensor, an array, a torch Dataset or a DataLoader), (images, labels), or a list of "
    "such",
]

_fitting = threading.Lock()


@contextmanager
def _training_alone() -> Iterator[None]:
    """Pyro's parameter store belongs to the whole process: one training at a time."""
    if not _fitting.acquire(blocking=False):
        raise InputError("another training runs in this process: use fit in a process of its own")
    try:
        yield
    finally:
        _fitting.release()


@checked
@one_line_refusals
@_training_alone()
@unrounded()
@isolated
def fit(
    model: Program,
    guide: Program,
    train: Groups,
    test: Groups | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    schedule: str = "constant",
    elbo: ELBO | None = None,
    kl_weight: float | Callable[[int], float] = 1.0,
    transform: Callable[[Tensor], Tensor] | None = None,
    on_epoch: Callable[[dict], object] | None = None,
    seed: int = 0,
    batch_parts: int = 1,
    state_path: str | Path | None = None,
    resume: bool = False,
    must_match: dict[str, object] | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Maximise the ELBO of `model` and `guide`, in place, over the images of `train`.

    Modules need not call `pyro.module`: they are registered here, and afterwards no more. Pyro's
    other parameters and the random numbers of Python, NumPy and torch are left as they were; what a
    function registers by `pyro.param` stays in Pyro's store. Before the first step, model and guide
    are tried in evaluation mode: what cannot be trained or scored is refused untrained.

        >>> from pyro_vae import Vae, fit, load_dataset
        >>> vae, x = Vae.build(2, architecture="dense"), load_dataset("digits").train_images
        >>> history = fit(vae.model, vae.guide, (x,), epochs=2, progress=False)
        >>> history[1]["train_elbo"] > history[0]["train_elbo"]
        True

    Args:
        train: the arguments of model and guide over all images: `x`, `(x,)` or `(x, y)`, tensors or
            arrays; x may be a Dataset or DataLoader, with its labels: see `as_images`. Or a list of
            such groups, `[(x, y), (x_unlabelled,)]`: each batch is of one group, called with its
            arguments, and the batches of all groups are mixed. A guide with numbers of its own for
            each image, such as Pyro's `AutoNormal`, needs all images in one batch.
        test: the same for held-out images; their ELBO is measured after each epoch.
        schedule: of the learning rate over all epochs. At a "constant" rate the weights keep
            fluctuating around the optimum. "cosine" lets the rate fall to zero. "one_cycle" lets
            it rise to `learning_rate`, which may then be several times as high, and fall again: on
            MNIST, four epochs with batches of 50 and a peak of 0.006 end higher than ten with
            batches of 100 at a constant 0.001 (`pyro_vae.training.schedules`).
        elbo: the bound, by default `Trace_ELBO()`, which samples all of it. `TraceMeanField_ELBO()`
            takes the KL term in closed form where Pyro knows it.
        kl_weight: weight of the terms of the latents, log p(z) - log q(z | x), or a function that
            gives it for each step, counted from 0 over all epochs: KL warm-up, or a beta-VAE.
            Finite and >= 0.
        transform: applied to the images of each training batch, such as `torch.bernoulli` for
            images that are binarised anew each time. Its random numbers come from `seed`. Tensors
            reach it as they are given, uint8 too. The images of `test` are not transformed: do it
            yourself to compare the two ELBOs.
        on_epoch: called, in every process, with the record of each epoch that this call trains,
            when its state is saved. If it returns False, training ends there; resumed with an
            `on_epoch`, it stays ended.
        batch_parts: parts of a batch, each with random numbers of its own, which the processes of a
            group share (`pyro_vae.parallel`). The weights depend on how many parts there are, and,
            but for rounding, not on how many processes work on them.
        state_path: where the training state is kept: weights, optimiser, order of the images and
            position. It is written after each epoch, and when SIGINT or SIGTERM asks to stop. Model
            and guide must then be modules.
        resume: go on from `state_path`, if it is there. The weights at the end are, bit for bit,
            those of a run that was never stopped.
        must_match: further settings that must match the resumed run, such as the data set's name.
            Images, options, the bound, and the classes of model and guide always must.

    Returns:
        One dict an epoch: `epoch`, `train_elbo` (mean over the epoch, as the weights moved, of what
        is trained: with `kl_weight`, and by the bound `elbo`) and `test_elbo` (one sample an image,
        the same noise each time, of the programs without any weight), nats per image.

    Raises:
        InputError: an argument is wrong, model and guide do not match, `state_path` is damaged or
            of another run, gradients are off, or another thread is training.
        TrainingError: the loss or a weight became NaN or infinite; the last good state is kept.
        Interrupted: SIGINT or SIGTERM asked to stop; the state is saved, if there is a path.
    """
    check_training_options(epochs, batch_size, learning_rate, seed, batch_parts, schedule)
    gathering = None if progress else False
    groups = groups_of(train, "train", model, guide, gathering, transform is not None)
    test_groups = [] if test is None else groups_of(test, "test", model, guide, gathering)
    sizes = [len(group[0]) for group in groups]
    for size in sizes:
        check_batch_parts(batch_parts, size, batch_size)
    if not torch.is_grad_enabled():
        raise InputError("gradients are off: call fit outside torch.no_grad and inference_mode")
    elbo = elbo or Trace_ELBO()
    check_kl_weight(kl_weight, elbo)

    stop, like = StopRequest(), groups[0][0]
    with stop.caught():
        in_order = rehearse(
            model, guide, groups, test_groups, elbo=elbo, transform=transform, seed=seed,
            batch_size=batch_size, batch_parts=batch_parts,
        )  # fmt: skip
    programs = {"model": own_module(model), "guide": own_module(guide)}
    modules = {name: module for name, module in programs.items() if module is not None}
    options = {"batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    options |= {"batch_parts": batch_parts, "images": sizes if len(sizes) > 1 else sizes[0]}
    if schedule != "constant":
        options |= {"schedule": schedule, "epochs": epochs}
    if kl_weight != 1:
        options["kl_weight"] = name_of_function(kl_weight) if callable(kl_weight) else kl_weight
    path = None if state_path is None else Path(state_path)
    data = {"train": groups} | ({"test": test_groups} if test_groups else {})
    if path is None and parallel.world_size() == 1:
        data = {}  # nothing to compare it with
    settings = settings_of(options, modules, data, elbo, transform, must_match or {})

    shuffle = torch.Generator().manual_seed(seed)  # apart from the generator of the samples
    betas = (0.9, BETA2.get(schedule, 0.999))
    optimiser = SingleOptimizer(torch.optim.Adam, learning_rate, betas=betas, fused=True)
    bound = PartitionedELBO(elbo, batch_parts, stop)
    state = TrainingState(path, modules, optimiser, shuffle, settings)
    # all options are right: from here on the modules are this training's
    optimiser.watched = _prepare(model, guide)
    with GLOBAL_STATE_LOCK:
        seed_everything(seed, like)
    position, history = state.resume(epochs) if resume else state.begin()
    parallel.check_alike(
        data_and_options=str(settings),
        weights=fingerprint([module.state_dict() for module in modules.values()]),
    )
    svi = SVI(
        as_trained(model, "model", bound),
        as_trained(guide, "guide", bound),
        optimiser,
        loss=bound.elbo.loss,
        loss_and_grads=bound.loss_and_grads,
    )

    steps = sum(math.ceil(size / batch_size) for size in sizes)  # of an epoch
    may_end = any_process(on_epoch is not None, like.device)
    check = Divergence(position, steps, learning_rate, state)
    with _progress_bar(progress, epochs, steps, position) as bar, stop.caught():
        while position.epoch < epochs and not (position.ended and may_end):
            shuffle_state = shuffle.get_state()
            batches = epoch_batches(sizes, batch_size, None if in_order else shuffle)
            for step in range(position.step, steps):
                taken = position.epoch * steps + step
                optimiser.learning_rate = learning_rate * SCHEDULES[schedule](
                    taken / (epochs * steps)
                )
                bound.seeds = (seed, position.epoch, step)
                bound.kl_weight = weight_at(kl_weight, taken)
                group, rows = batches[step]
                batch = take(groups[group], rows, transform, transform_seed(*bound.seeds))
                with check.distributions(), GLOBAL_STATE_LOCK:
                    loss = svi.step(*batch)
                check.loss(loss)
                position.total += loss
                position.step = step + 1
                bar.update()
                bar.set_postfix(elbo=f"{-loss / len(batch[0]):.1f}", refresh=False)
                if stop.agreed and position.step < steps:
                    state.save(position, history, shuffle_state)
                    raise interrupted(path)
            record = {"epoch": position.epoch + 1, "train_elbo": -position.total / sum(sizes)}
            parallel.take_first(w for m in modules.values() for w in m.state_dict().values())
            check.weights(modules, record["train_elbo"])
            if test_groups:
                with check.distributions():
                    record["test_elbo"] = _test_elbo(model, guide, test_groups)
            history.append(record)
            position.epoch, position.step, position.total = position.epoch + 1, 0, 0.0
            position.ended = False
            state.save(position, history, shuffle.get_state())
            _write_record(bar, record)
            answer = None if on_epoch is None else on_epoch(dict(record))
            if any_process(isinstance(answer, bool | np.bool_) and not answer, like.device):
                position.ended = True
                state.save(position, history, shuffle.get_state())
            if any_process(stop.asked.is_set(), like.device):
                raise interrupted(path)
    return history


@checked
def check_training_options(
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    batch_parts: int = 1,
    schedule: str = "constant",
) -> None:
    """Raise InputError for the first option that `fit` cannot train with."""
    check_counts(0, epochs=epochs)
    check_counts(batch_size=batch_size, batch_parts=batch_parts)
    check_number("learning_rate", learning_rate, 1e-12, 1e30)
    check_seed(seed)
    check_choice(SCHEDULES, schedule=schedule)


@checked
def check_batch_parts(batch_parts: int, images: int, batch_size: int) -> None:
    """Raise InputError unless every process has a part of every batch, and every part an image."""
    check_counts(batch_parts=batch_parts, images=images, batch_size=batch_size)
    smallest = images % batch_size or batch_size
    if batch_parts > smallest or batch_parts < parallel.world_size():
        raise InputError(
            f"batch_parts must be at least the number of processes, {parallel.world_size()}, and "
            f"at most the images of the smallest batch, {smallest}, not {batch_parts}"
        )


def _prepare(*programs: Program) -> list[nn.Parameter]:
    """Make the weights contiguous, drop gradients from before this training, and return them."""
    weights = [w for module in modules_of(*programs) for w in module.parameters(recurse=False)]
    for w in weights:
        # Pyro's store would copy any other memory layout, and SVI then trains the copy alone
        w.data = w.data.contiguous()
        w.grad = None
    return weights


def _test_elbo(model: Program, guide: Program, groups: list[Group]) -> float:
    """Return the mean ELBO of all images of the groups, nats per image, in evaluation mode."""
    options = {"num_samples": 1, "progress": False}
    scores = [log_likelihood(model, guide, *group, **options) for group in groups]
    return float(Estimate.concatenate(scores).elbo.mean())


def _progress_bar(progress: bool, epochs: int, steps: int, position: Position) -> tqdm:
    """Return the bar over all steps, which starts where the training does."""
    return tqdm(
        total=epochs * steps,
        initial=min(position.epoch, epochs) * steps + position.step,
        unit="step",
        disable=not progress or parallel.rank() > 0,
        desc="training",
    )


def _write_record(bar: tqdm, record: dict[str, float]) -> None:
    """Print the ELBOs of an epoch above the bar, if there is one."""
    elbos = [f"{k.replace('_elbo', '')} {v:.2f}" for k, v in record.items() if k != "epoch"]
    if not bar.disable:
        bar.write(f"epoch {record['epoch']}: ELBO {', '.join(elbos)} nats per image")
