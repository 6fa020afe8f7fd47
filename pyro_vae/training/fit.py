"""Training of any model and guide by SVI, with Trace_ELBO or another bound, with exact resume."""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyro
import torch
from pyro.infer import ELBO, SVI, Trace_ELBO
from torch import Tensor, nn
from tqdm import tqdm

from pyro_vae import parallel
from pyro_vae.errors import (
    InputError,
    check_choice,
    check_counts,
    check_number,
    check_rows,
    check_seed,
    checked,
    refused_by_distribution,
)
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.traces import Program
from pyro_vae.seeds import GLOBAL_STATE_LOCK
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.tensors import blaming, load_tensors, load_weights, pack, save_tensors
from pyro_vae.training.elbo import ShardedELBO, _described
from pyro_vae.training.optimiser import SingleOptimizer
from pyro_vae.training.stopping import Interrupted, TrainingError, _stop_signals, _stopped

# what a training state holds
STATE = {
    "model",
    "guide",
    "optimiser",
    "order",
    "position",
    "history",
    "settings",
}
_fitting = threading.Lock()


@contextmanager
def _training_alone() -> Iterator[None]:
    """Pyro's parameter store is the whole process's: one training at a time."""
    if not _fitting.acquire(blocking=False):
        raise InputError("another training runs in this process: use fit in a process of its own")
    try:
        yield
    finally:
        _fitting.release()


@checked
@_training_alone()
def fit(
    model: Program,
    guide: Program,
    train: tuple[Tensor, ...],
    test: tuple[Tensor, ...] | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    schedule: str = "constant",
    elbo: ELBO | None = None,
    seed: int = 0,
    batch_parts: int = 1,
    state_path: str | Path | None = None,
    resume: bool = False,
    must_match: dict[str, object] | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Maximise the ELBO of `model` and `guide`, in place, over the images of `train`.

    Args:
        train: the arguments of model and guide over all images: `(x,)` or `(x, y)`.
        test: the same for held-out images; their ELBO is measured after each epoch.
        schedule: of the learning rate: "constant", or "cosine", which lets it fall to zero over all
            epochs along half a cosine. At a constant rate the weights keep fluctuating around the
            optimum.
        elbo: how the bound is estimated, by default `Trace_ELBO()`, which samples all of it.
            `TraceMeanField_ELBO()` takes the KL term in closed form where Pyro knows it.
        batch_parts: parts of a batch, each with random numbers of its own; the processes of a group
            (`pyro_vae.parallel`) share them. The weights depend on how many there are, and, but for
            rounding, not on how many processes work on them.
        state_path: where the training state is kept: weights, optimiser, order of the images and
            position. It is written after each epoch, and when SIGINT or SIGTERM asks to stop. Model
            and guide must then be modules.
        resume: go on from `state_path`, if it is there. The weights at the end are, bit for bit,
            those of a run that was never stopped.
        must_match: further settings that must match the resumed run, such as the data set's name.
            Images, options, the bound, and the classes of model and guide always must.

    Returns:
        One dict an epoch: `epoch`, `train_elbo` (mean over the epoch, as the weights moved) and
        `test_elbo` (one sample an image, the same noise each time), nats per image.

    Raises:
        InputError: an argument is wrong, `state_path` is damaged or of another run, gradients are
            off, or another thread is training.
        TrainingError: the loss or a weight became NaN or infinite; the last good state is kept.
        Interrupted: SIGINT or SIGTERM asked to stop; the state is saved, if there is a path.

    Modules need not call `pyro.module`: they are registered here, in a cleared parameter store.
    """
    check_training_options(epochs, batch_size, learning_rate, seed, batch_parts)
    for rows in (train, test if test is not None else train):
        check_rows(*rows)
    check_batch_parts(batch_parts, len(train[0]), batch_size)
    if not torch.is_grad_enabled():
        raise InputError("gradients are off: call fit outside torch.no_grad and inference_mode")
    path = Path(state_path) if state_path is not None else None
    if path is not None and os.path.isdir(path):
        raise InputError(f"state_path {path} is a folder: name a file")
    learning_rate = float(learning_rate)  # a state with NumPy's numbers could not be read again
    settings = {"batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    elbo = elbo or Trace_ELBO()
    settings |= {"batch_parts": batch_parts, "elbo": _described(elbo)}
    check_choice(("constant", "cosine"), schedule=schedule)
    if schedule == "cosine":
        settings["cosine_epochs"] = epochs
    modules = {
        name: program
        for name, program in {"model": model, "guide": guide}.items()
        if isinstance(program, nn.Module)
    }
    if path is not None and len(modules) < 2:
        raise InputError(
            "state_path: only modules can be saved; make model and guide torch.nn.Modules, or "
            "train without state_path"
        )
    if path is not None:
        settings |= {"images": len(train[0]), "train": fingerprint(*train)}
        for name, module in modules.items():  # by classes: attributes may change as it is trained
            kinds = [[inner, type(part)] for inner, part in module.named_modules()]
            settings[f"{name}_kind"] = fingerprint(kinds)
        if test is not None:
            settings["test"] = fingerprint(*test)
    for name in must_match or {}:
        if name in settings:
            raise InputError(f"must_match must not hold {name!r}: that is compared in any case")
    settings |= must_match or {}
    if path is not None:
        pack(settings)
    for module in modules.values():
        for parameter in module.parameters():
            # Pyro's store would copy any other memory layout, and SVI then trains the copy alone
            parameter.data = parameter.data.contiguous()
            parameter.grad = None  # what was computed before is no part of this training

    with GLOBAL_STATE_LOCK:
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
    order = torch.Generator().manual_seed(seed)  # of the images, apart from the samples' generator
    optim = SingleOptimizer(torch.optim.Adam, learning_rate, fused=True)
    bound = ShardedELBO(elbo, batch_parts)
    svi = SVI(
        _registered(model, "model"),
        _registered(guide, "guide"),
        optim,
        loss=bound.elbo.loss,
        loss_and_grads=bound.loss_and_grads,
    )
    history: list[dict[str, float]] = []
    position = {"epoch": 0, "step": 0, "total": 0.0}
    resumed = resume and path is not None and os.path.exists(path)
    kept = resumed  # whether what lies at `path` is of this run
    if resumed:
        state = load_tensors(path, "a training state", STATE)
        if state["settings"] != settings:
            with blaming(path):
                names = sorted(state["settings"].keys() | settings.keys())
                both = (state["settings"], settings)
                pairs = [(name, *(one.get(name, "unset") for one in both)) for name in names]
            other = [f"{name}={then}, not {now}" for name, then, now in pairs if then != now]
            raise InputError(
                f"{path} was trained with {'; '.join(other)}: resume with the same options, or "
                "delete it to train afresh"
            )
        with blaming(path):
            history, position = state["history"], state["position"]
            if len(history) > epochs:
                raise InputError(
                    f"{path} has already seen {len(history)} epochs, and {epochs} are asked: "
                    "raise epochs, or delete it to train afresh"
                )
            if position["epoch"] != len(history) or not 0 <= position["step"] < math.inf:
                raise ValueError
            position["total"] + 0.0
            for name, module in modules.items():
                load_weights(module, state[name], path)
            if not isinstance(state["optimiser"], dict):
                raise TypeError
            optim.set_state(state["optimiser"])
            order.set_state(state["order"])

    parallel.check_alike(weights=fingerprint([m.state_dict() for m in modules.values()]))

    def save(order_state: Tensor) -> None:
        nonlocal kept
        kept = path is not None
        if path is None or parallel.rank() > 0:
            return
        weights = {name: module.state_dict() for name, module in modules.items()}
        save_tensors(
            path,
            weights
            | {
                "optimiser": optim.get_state(),
                "order": order_state,
                "position": position,
                "history": history,
                "settings": settings,
            },
        )

    def failed(what: str) -> TrainingError:
        left = f"the last good state is in {path}" if kept else "nothing is saved"
        epoch, step = position["epoch"] + 1, position["step"] + 1
        where = f"in epoch {epoch}, step {step}" if step <= steps else f"after epoch {epoch}"
        return TrainingError(f"{what} {where}: lower the learning rate ({learning_rate:g}); {left}")

    @contextmanager
    def in_range() -> Iterator[None]:
        """Pyro refuses a distribution with wrong parameters before there is a loss."""
        try:
            yield
        except ValueError as error:
            if "Expected parameter" not in refused_by_distribution(error):
                raise
            raise failed("a distribution got parameters that are NaN or invalid") from error

    images = len(train[0])
    steps = math.ceil(images / batch_size)
    bar = tqdm(
        total=epochs * steps,
        initial=min(position["epoch"], epochs) * steps + position["step"],
        unit="step",
        disable=not progress or parallel.rank() > 0,
        desc="training",
    )
    with bar, _stop_signals(bound.stop):
        while position["epoch"] < epochs:
            order_state = order.get_state()
            batches = torch.randperm(images, generator=order).split(batch_size)
            for step in range(position["step"], steps):
                if schedule == "cosine":
                    done = (position["epoch"] * steps + step) / (epochs * steps)
                    optim.learning_rate = learning_rate * (1 + math.cos(math.pi * done)) / 2
                batch = [tensor[batches[step]] for tensor in train]
                bound.seeds = (seed, position["epoch"], step)
                with in_range(), GLOBAL_STATE_LOCK:
                    loss = svi.step(*batch)
                if not math.isfinite(loss):
                    raise failed(f"the loss became {loss}")
                position["total"] += loss
                position["step"] = step + 1
                bar.update()
                bar.set_postfix(elbo=f"{-loss / len(batch[0]):.1f}", refresh=False)
                if bound.stopping and step + 1 < steps:
                    save(order_state)
                    raise Interrupted(_stopped(path))
            record = {"epoch": position["epoch"] + 1, "train_elbo": -position["total"] / images}
            if not (all_finite(modules) and math.isfinite(record["train_elbo"])):
                raise failed("the weights or the ELBO became NaN or infinite")
            if test is not None:
                with in_range(), _eval_mode(modules):
                    score = log_likelihood(model, guide, *test, num_samples=1)
                record["test_elbo"] = float(score.elbo.mean())
            history.append(record)
            position = {"epoch": position["epoch"] + 1, "step": 0, "total": 0.0}
            save(order.get_state())
            elbos = [f"{k.replace('_elbo', '')} {v:.2f}" for k, v in record.items() if k != "epoch"]
            if progress and parallel.rank() == 0:
                bar.write(f"epoch {record['epoch']}: ELBO {', '.join(elbos)} nats per image")
            if bound.agree_to_stop(train[0].device):
                raise Interrupted(_stopped(path))
    return history


@checked
def check_training_options(
    epochs: int, batch_size: int, learning_rate: float, seed: int, batch_parts: int = 1
) -> None:
    """An `InputError` for the first option that `fit` cannot train with."""
    check_counts(0, epochs=epochs)
    check_counts(batch_size=batch_size, batch_parts=batch_parts)
    check_number("learning_rate", learning_rate, 1e-12, 1e30)
    check_seed(seed)


@checked
def check_batch_parts(batch_parts: int, images: int, batch_size: int) -> None:
    """An `InputError` unless every process has a part of every batch, and every part an image."""
    check_counts(batch_parts=batch_parts, images=images, batch_size=batch_size)
    smallest = images % batch_size or batch_size
    if batch_parts > smallest or batch_parts < parallel.world_size():
        raise InputError(
            f"batch_parts must be at least the number of processes, {parallel.world_size()}, and "
            f"at most the images of the smallest batch, {smallest}, not {batch_parts}"
        )


def all_finite(modules: dict[str, nn.Module]) -> bool:
    """Whether every parameter of the modules is a number."""
    return all(bool(w.isfinite().all()) for m in modules.values() for w in m.parameters())


def _registered(program: Program, name: str) -> Program:
    """`program`, with its parameters in Pyro's store: without that SVI trains nothing, silently."""
    if not isinstance(program, nn.Module):
        return program  # a function registers its own, with pyro.param or pyro.module
    if not any(w.requires_grad for w in program.parameters()):
        return program  # frozen: Pyro would warn of each parameter at each step

    def registered(*args: Tensor) -> object:
        pyro.module(name, program)
        return program(*args)

    return registered


@contextmanager
def _eval_mode(modules: dict[str, nn.Module]) -> Iterator[None]:
    """The modules not in training: in it a layer such as BatchNorm learns from all it is given."""
    before = [(part, part.training) for module in modules.values() for part in module.modules()]
    try:
        for part, _ in before:
            part.training = False
        yield
    finally:
        for part, training in before:
            part.training = training
