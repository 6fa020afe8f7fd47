"""Work that is killed again and again, and checked after every kill.

    python -m tests.storage.faults FOLDER KILLS SEED [SCRIPT OPTIONS]

The work is a script's in small, or with SCRIPT that of the script itself, with --resume.
The parent imports everything once and starts each attempt by fork, so that a kill costs no import.
Half of the kills wait for a file that is being written, of each kind in turn. An attempt goes on
where the last one was killed. One that ends has its folder moved aside, to FOLDER.1, FOLDER.2, ...,
and the next begins in an empty one, until there have been KILLS kills; then the last is left to
end.
"""

import json
import os
import random
import re
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from experiments.cli import run
from pyro_vae.analysis.plots import save_figure
from pyro_vae.shards import sharded_log_likelihood
from pyro_vae.storage.files import atomic_write, lock_folder
from pyro_vae.storage.tensors import load_tensors
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae, load_vae, save_vae
from tests.commands import main_of


def work(folder: Path) -> None:
    """Training, a checkpoint, log-likelihoods, a figure, metrics: what a script does, in small."""
    torch.set_num_threads(1)
    lock_folder(folder)
    random_images = torch.Generator().manual_seed(0)
    x = torch.rand(420, 1, 28, 28, generator=random_images)
    torch.manual_seed(0)
    model, guide = build_vae(2, architecture="dense")
    path = folder / "checkpoints" / "some.pt"
    state_path = path.with_suffix(".training.pt")
    if not path.exists():
        options = {"epochs": 6, "batch_size": 60, "progress": False}
        history = fit(model, guide, (x,), (x[:50],), state_path=state_path, resume=True, **options)
        config = {"latent_dim": 2, "precision": "float32", "architecture": "dense"}
        save_vae(path, model, guide, config | {"history": history})
    model, guide, config = load_vae(path)
    found = sharded_log_likelihood(folder / "blocks", model, guide, x, num_samples=50)
    figure = Figure(figsize=(3, 2))
    figure.subplots().plot(found.value, ".")
    save_figure(figure, folder / "figure.png", "mnist")
    with atomic_write(folder / "metrics.json") as partial:
        metrics = {"log_p": found.value.tolist(), "history": config["history"]}
        partial.write_text(json.dumps(metrics))


def run_script(folder: Path, name: str, *options: str) -> None:
    """An experiment script, as a user starts it again after each kill."""
    torch.set_num_threads(1)
    sys.argv = [name, "--results", str(folder), "--resume", *options]
    run(main_of(name))


# What each file is, by its name; in the order in which they are written.
KINDS = {
    "training state": r".*\.training\.pt",
    "checkpoint": r"(?!images_).*\.pt",
    "block": r"images_\d+\.pt",
    "figure": r".*\.png",
    "metrics": r".*\.json",
}


def kind_of(partial: str) -> str:
    """The kind of a file by the name of its unfinished part."""
    name = partial.rsplit(".", 2)[0]
    return next(kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name))


def await_write(folder: Path, kinds: Sequence[str], child: int, seconds: float) -> None:
    """Return as soon as a file of one of the kinds is being written below `folder`.

    Or when the process `child` has ended, or the time is up.
    """

    def parts() -> set[str]:
        return {
            name for _, _, names in os.walk(folder) for name in names if name.endswith(".partial")
        }

    before, end = parts(), time.monotonic() + seconds
    while time.monotonic() < end:
        if any(kind_of(name) in kinds for name in parts() - before):
            return
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return


def check_whole(folder: Path) -> None:
    """Every file under its own name can be read from beginning to end."""
    for path in folder.rglob("*.*"):
        if path.suffix == ".pt":
            load_tensors(path, "a file of tensors", set())
        elif path.suffix == ".png":
            imread(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())


def progress(folder: Path) -> int:
    """How much of the work is on disk: epochs, and files of what comes after them."""
    done = sum(not path.name.endswith((".partial", ".lock")) for path in folder.rglob("*.*"))
    for state in folder.rglob("*.training.pt"):
        position = load_tensors(state, "a training state", {"position"})["position"]
        done += position["epoch"]
    return done


def stage(folder: Path, seen: set[str]) -> str:
    """What the work was at when it was killed; `seen` are the parts of files of earlier kills."""
    parts = {path.name for path in folder.rglob("*.partial")} - seen
    seen |= parts
    if parts:
        return f"writing: {kind_of(parts.pop())}"
    if not any(folder.rglob("*.pt")):
        return "start"
    if all(path.name.endswith(".training.pt") for path in folder.rglob("checkpoints/*.pt")):
        return "training"
    blocks = folder / "blocks"
    if blocks.exists() and len(list(blocks.glob("*.pt"))) < 5:
        return "log p"
    return "figures and metrics"


def main(folder: Path, kills: int, seed: int, *script: str) -> None:
    random.seed(seed)
    longest = 10.0 if script else 0.4  # seconds before a kill
    killed = ended = 0
    places: Counter[str] = Counter()
    seen: set[str] = set()
    patience, done = 1.0, 0
    while True:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run_script(folder, *script) if script else work(folder)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        if killed < kills:
            if killed % 2:
                kinds = list(KINDS)
                kinds = kinds if script else [kinds[killed // 2 % len(kinds)]]
                await_write(folder, kinds, child, 20 * longest * patience)
            else:
                time.sleep(random.uniform(0, longest) * patience)
            os.kill(child, signal.SIGKILL)  # does nothing to one that has ended
        _, status = os.waitpid(child, 0)
        check_whole(folder)
        if os.WIFSIGNALED(status):
            killed += 1
            places[stage(folder, seen)] += 1
            # so that a slow machine gets on too: wait longer while nothing new is done
            patience = 1.0 if progress(folder) > done else 1.5 * patience
            done = progress(folder)
            continue
        if status != 0:
            raise RuntimeError(f"an attempt after {killed} kills ended with status {status}")
        if killed == kills:
            break
        ended, done = ended + 1, 0
        folder.rename(folder.with_name(f"{folder.name}.{ended}"))
    print(json.dumps({"kills": killed, "runs": ended + 1, **places}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
