"""The question scripts as a user meets them: one line for an error, and nothing lost."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from functools import partial

import pytest
import torch

from experiments import trained as trained_module
from experiments.cli import announce_and_load, make_parser
from experiments.trained import Spec, load_or_train
from pyro_vae.data.mnist_family import MNIST_MD5
from pyro_vae.errors import InputError
from pyro_vae.networks.precision import resolve_precision
from pyro_vae.storage.files import lock_file
from pyro_vae.training.stopping import Interrupted
from tests.autoencoders import load_vae, save_vae
from tests.commands import ROOT, check_wrong_option, main_of, run_main, run_script

FAST = ["--dataset", "digits", "--epochs", "1", "--batch-size", "500", "--posterior-draws", "2"]
run = partial(run_script, "question_a")
check_refused = partial(check_wrong_option, main_of("question_a"))


@pytest.fixture(scope="module")
def checkpoint(digits, tmp_path_factory):
    """The checkpoint that a script's short training on the digits leaves."""
    results = tmp_path_factory.mktemp("trained")
    args = make_parser("a script", 4).parse_args([*FAST[:-2], "--results", str(results)])
    load_or_train(args, digits, Spec(4))
    return results / "digits" / "checkpoints" / "d4.pt"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results folder of a short run on the digits."""
    folder = tmp_path_factory.mktemp("results")
    done = run(*FAST, "--results", folder)
    assert done.returncode == 0, done.stderr
    assert "figures and metrics.json in" in done.stdout
    return folder / "digits"


@pytest.mark.scripts
def test_question_a_writes_its_figures_and_metrics(results):
    names = {path.name for path in (results / "question_a").iterdir()}
    figures = ["training", "reconstructions", "noise", "noise_posterior", "noise_curves", "random"]
    figures += ["interpolation", "endpoints"]
    assert names == {f"{name}.png" for name in figures} | {"metrics.json"}
    metrics = json.loads((results / "question_a" / "metrics.json").read_text())
    assert metrics["dataset"] == "digits"
    assert metrics["training"]["epochs"] == 1
    assert metrics["provenance"]["packages"]["torch"] == torch.__version__.split("+")[0]
    assert metrics["provenance"]["precision"] == resolve_precision("auto")
    assert metrics["test_elbo"]["num_images"] == 297
    _, _, config = load_vae(results / "checkpoints" / "d4.pt")
    assert config["history"] == metrics["training"]["history"]


@pytest.mark.scripts
@pytest.mark.slow
def test_the_same_run_gives_the_same_files(results, tmp_path):
    shutil.copytree(results / "checkpoints", tmp_path / "digits" / "checkpoints")
    assert run(*FAST, "--results", tmp_path).returncode == 0
    for path in (results / "question_a").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "digits" / "question_a" / path.name).read_bytes(), (
            path.name
        )
    old, new = (
        json.loads((folder / "question_a" / "metrics.json").read_text())
        for folder in (results, tmp_path / "digits")
    )
    old.pop("options"), new.pop("options")
    assert old == new


def test_without_mnist_the_script_stops_and_says_what_to_do(tmp_path, capsys):
    (tmp_path / "MNIST").write_text("not a folder: nothing can be downloaded here")
    options = ["--data-root", tmp_path]
    check_refused(options, "choose --dataset digits", tmp_path / "results", capsys)
    assert not (tmp_path / "results").exists()


def test_auto_does_not_fall_back_where_mnist_is_damaged(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_MD5:
        (raw / name).write_bytes(b"0")
    args = make_parser("").parse_args(["--dataset", "auto", "--data-root", str(tmp_path)])
    with pytest.raises(InputError, match="train-images-idx3-ubyte is not MNIST's file"):
        announce_and_load(args, "question")


def score_a_few(*options):
    """The script that does least, on the data set that can be had."""
    few = ("--epochs", 1, "--batch-size", 500, "--images", 20, "--num-samples", 2)
    return run_script("distributed", "--dataset", "auto", *few, *options)


@pytest.mark.scripts
def test_auto_falls_back_loudly(tmp_path):
    (tmp_path / "MNIST").write_text("not a folder: nothing can be downloaded here")
    done = score_a_few("--data-root", tmp_path, "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    assert "NO MNIST" in done.stderr
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["digits"]
    written = tmp_path / "results" / "digits" / "distributed" / "metrics.json"
    assert json.loads(written.read_text())["dataset"] == "digits"


@pytest.mark.parametrize("spoil", ["truncated", "foreign", "hostile", "other d", "nan"])
def test_a_wrong_checkpoint_is_named(checkpoint, tmp_path, capsys, spoil):
    good = checkpoint.read_bytes()
    path = tmp_path / "spoilt.pt"
    if spoil == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif spoil == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    elif spoil == "hostile":
        torch.save({"decoder": subprocess.Popen}, path)
    elif spoil == "other d":
        shutil.copy(checkpoint, path)
    else:
        model, guide, config = load_vae(checkpoint)
        with torch.no_grad():
            model.decoder.f[0].weight[0, 0] = float("nan")
        save_vae(path, model, guide, config)
    before = path.read_bytes()
    options = ["--latent-dim", "20"] if spoil == "other d" else []
    options = [*FAST, "--checkpoint", path, *options]
    check_refused(options, str(path), tmp_path / "results", capsys)
    assert path.read_bytes() == before


def test_other_training_options_than_the_checkpoints_are_refused(checkpoint, tmp_path, capsys):
    options = [*FAST[:2], "--epochs", 3, "--checkpoint", checkpoint]
    message = "was trained with epochs=1, not 3: give --epochs 1 to use it, or leave out --checkp"
    check_refused(options, message, tmp_path / "results", capsys)


@pytest.mark.scripts
def test_resume_with_nothing_to_resume_uses_the_checkpoint(results, tmp_path):
    """As shipped, there is a checkpoint and no training state: it must not be trained anew."""
    folder = tmp_path / "digits" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(results / "checkpoints" / "d4.pt", folder)
    before = (folder / "d4.pt").read_bytes()
    data = tmp_path / "no data"
    data.write_text("not a folder")
    done = score_a_few("--data-root", data, "--results", tmp_path, "--resume")
    assert done.returncode == 0, done.stderr
    assert "autoencoder: " in done.stdout
    assert "training d4" not in done.stdout
    assert (folder / "d4.pt").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    done = run(*FAST, "--results", tmp_path / "results")
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1  # before any training


def trained(data, results, *options):
    """As a script trains or loads its autoencoder, in a second: its config."""
    parser = make_parser("a script", latent_dim=2, epochs=1)
    args = parser.parse_args(["--results", str(results), "--batch-size", "500", *options])
    return load_or_train(args, data, Spec(2, "dense"), path=args.checkpoint).config


def test_a_training_has_its_objective(digits, tmp_path):
    """In the checkpoint's config and in the training state: neither is taken for another's."""
    config = trained(digits, tmp_path, "--objective", "dreg", "--particles", "3")
    assert (config["objective"], config["particles"]) == ("dreg", 3)
    assert trained(digits, tmp_path)["objective"] == "dreg"  # not asked for: any will do
    assert trained(digits, tmp_path, "--objective", "dreg") == config
    for options, said in (
        (["--objective", "iwae"], "objective=dreg, not iwae: give --objective dreg .* --train"),
        (["--objective", "elbo"], "objective=dreg, not elbo: give --objective dreg .* --train"),
        (["--particles", "8"], "particles=3, not 8: give --particles 3 to use it, or add --train"),
        (["--objective", "dreg", "--resume"], r"was trained with elbo=.*\(.*num_particles=3, .*"),
        (["--resume"], r"was trained with elbo=.*\.PathELBO\(.*, not .*\.Trace_ELBO\("),
    ):
        with pytest.raises(InputError, match=said):
            trained(digits, tmp_path, *options)
    afresh = trained(digits, tmp_path, "--objective", "iwae", "--train")
    assert (afresh["objective"], afresh["particles"]) == ("iwae", 8)


def test_a_training_has_its_schedule(digits, tmp_path):
    """By the rate at its first step, a 25th of the peak in one cycle, the weights differ."""
    constant = trained(digits, tmp_path)
    assert constant["schedule"] == "constant"
    with pytest.raises(InputError, match="schedule=constant, not one_cycle: give --schedule const"):
        trained(digits, tmp_path, "--schedule", "one_cycle")
    cycle = trained(digits, tmp_path, "--schedule", "one_cycle", "--train")
    assert cycle["schedule"] == "one_cycle"
    assert cycle["history"] != constant["history"]
    assert trained(digits, tmp_path, "--schedule", "one_cycle") == cycle


def test_a_checkpoint_that_names_no_objective_was_trained_by_the_elbo(digits, tmp_path):
    first = trained(digits, tmp_path)
    path = tmp_path / "digits" / "checkpoints" / "d2.pt"
    model, guide, config = load_vae(path)
    old = {name: value for name, value in config.items() if name not in ("objective", "particles")}
    save_vae(path, model, guide, old)
    assert trained(digits, tmp_path, "--objective", "elbo", "--particles", "1") == old
    with pytest.raises(InputError, match="was trained with objective=elbo, not stl: give"):
        trained(digits, tmp_path, "--objective", "stl")
    before = path.read_bytes()
    assert trained(digits, tmp_path, "--resume")["history"] == first["history"]
    assert path.read_bytes() == before  # nothing was left to train


def test_a_checkpoint_that_is_finished_stays_what_an_earlier_run_made(
    digits, tmp_path, monkeypatch
):
    first = trained(digits, tmp_path)
    before = (tmp_path / "digits" / "checkpoints" / "d2.pt").read_bytes()
    monkeypatch.setattr(trained_module, "provenance", lambda: {"git": "another"})
    assert trained(digits, tmp_path, "--resume") == first
    assert (tmp_path / "digits" / "checkpoints" / "d2.pt").read_bytes() == before
    (tmp_path / "digits" / "checkpoints" / "d2.pt").write_bytes(
        before[:100]
    )  # then it is made again
    assert trained(digits, tmp_path, "--resume")["provenance"] == {"git": "another"}
    more = trained(digits, tmp_path, "--resume", "--epochs", "2")
    assert len(more["history"]) == 2


def test_training_afresh_leaves_no_earlier_state_to_resume(digits, tmp_path, monkeypatch):
    trained(digits, tmp_path)

    def stopped(*args, **options):
        raise Interrupted("stopped in the first epoch")

    with pytest.raises(InputError, match="batch_parts must be"):
        trained(digits, tmp_path, "--train", "--batch-parts", "501")
    names = {path.name for path in (tmp_path / "digits" / "checkpoints").iterdir()}
    assert names == {"d2.pt", "d2.training.pt"}  # what cannot begin removes nothing
    with monkeypatch.context() as patch:
        patch.setattr(trained_module, "fit", stopped)
        with pytest.raises(Interrupted):
            trained(digits, tmp_path, "--train")
    assert [path.name for path in (tmp_path / "digits" / "checkpoints").iterdir()] == ["d2.pt"]


@pytest.mark.parametrize("named", [False, True])
def test_a_training_that_was_stopped_is_not_begun_again_unasked(digits, tmp_path, named):
    path = tmp_path / "digits" / "checkpoints" / "d2.pt"
    options = ["--checkpoint", str(path)] if named else []
    whole = trained(digits, tmp_path / "whole", "--epochs", "2")
    trained(digits, tmp_path)
    path.unlink()  # as a stop in the second epoch leaves it
    state = path.with_suffix(".training.pt")
    before = state.read_bytes()
    with pytest.raises(InputError, match=r"add --resume, .* to take it up, or --train"):
        trained(digits, tmp_path, "--epochs", "2", *options)
    with (
        lock_file(path),
        pytest.raises(InputError, match=r"another run is writing .*d2\.pt"),
    ):
        trained(digits, tmp_path, "--epochs", "2", *options)
    assert state.read_bytes() == before
    resumed = trained(digits, tmp_path, "--epochs", "2", "--resume", *options)
    assert resumed["history"] == whole["history"]


def test_checkpoints_have_states_of_their_own(digits, tmp_path):
    for name in ("lr0.001", "lr0.01", "plain.pt"):
        trained(digits, tmp_path, "--train", "--checkpoint", str(tmp_path / name))
    names = {path.name for path in tmp_path.iterdir()}
    states = {"lr0.001.training.pt", "lr0.01.training.pt", "plain.training.pt"}
    assert names == {"lr0.001", "lr0.01", "plain.pt"} | states


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(36, "File name too long", "aaa"), 2, "aaa: File name too long; name another file"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device"),
        (MemoryError(), 1, "not enough memory: ask for fewer"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "not enough memory"),
        (BrokenPipeError(32, "Broken pipe"), 1, "error: Broken pipe"),  # not of the output
    ],
)
def test_what_the_system_refuses_is_one_line(capsys, error, code, said):
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == code
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_another_error_is_no_matter_of_memory():
    def main():
        raise RuntimeError("its data is not allocated yet")

    with pytest.raises(RuntimeError, match="not allocated yet"):
        run_main(main)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--latent-dim", 10**20, "--latent-dim must be at most 1,000,000,000"),
        ("--batch-size", 10**20, "--batch-size must be at most 1,000,000,000"),
        ("--checkpoint", "a" * 300, "is not a file, seen from"),
        ("--data-root", "a" * 300, "File name too long"),
    ],
)
def test_what_is_too_large_or_too_long_is_one_line(tmp_path, capsys, option, value, said):
    dataset = ["--dataset", "mnist" if option == "--data-root" else "digits"]
    check_refused([*dataset, option, value], said, tmp_path / "results", capsys)


@pytest.mark.scripts
def test_output_that_nobody_reads_or_that_is_ascii_alone_is_no_traceback():
    code = (
        "from experiments.cli import run\n"
        "def main():\n"
        "    for _ in range(100_000):\n"
        "        print('log p \\N{MINUS SIGN}1')\n"
        "run(main)"
    )
    command = f"{sys.executable} -c {shlex.quote(code)}"
    for line, end in ((f"{command} | head -n 1", "log p"), (f"{command} >&- 2>&-; echo $?", "0")):
        done = subprocess.run(
            ["sh", "-c", line],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        )
        assert done.stderr == ""
        assert done.stdout.startswith(end)
