"""What a script reads and where it writes: the results of record are read, and never written."""

import shutil
import subprocess
from pathlib import Path

import pytest

from experiments import record as record_module
from experiments import trained as trained_module
from experiments.cli import make_parser
from experiments.compare_guides.__main__ import check_epochs
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae.errors import InputError
from tests.autoencoders import load_vae
from tests.commands import ROOT, check_wrong_option, main_of, run_main

OWN = Path("runs/digits/checkpoints/d2.pt")  # in the working directory


def train_or_load(data, *options):
    """As a script comes by its autoencoder, in a second if it trains: the config."""
    parser = make_parser("a script", latent_dim=2)
    words = ["--batch-size", "500", *map(str, options)]
    args = parser.parse_args(words)
    return load_or_train(args, data, Spec(2, "dense"), path=args.checkpoint).config


@pytest.fixture(scope="module")
def of_record(digits, tmp_path_factory):
    """A folder of results with a checkpoint in it, trained for one epoch."""
    folder = tmp_path_factory.mktemp("record")
    train_or_load(digits, "--results", folder, "--epochs", 1)
    (folder / "digits" / "checkpoints" / "d2.training.pt").unlink()  # as it is shipped
    return folder


@pytest.fixture
def record(of_record, tmp_path, monkeypatch):
    """A copy of the repository, as far as it matters here: its checkpoint of record.

    It is the working directory. The checkpoint must be, to the byte, as it was.
    """
    shutil.copytree(of_record, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trained_module, "RECORD", tmp_path / "results")
    path = tmp_path / "results" / "digits" / "checkpoints" / "d2.pt"
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["d2.pt"]


def own_files(folder="runs"):
    """The checkpoints and training states in a folder of the working directory."""
    return {path.name for path in (trained_module.RECORD.parent / folder).rglob("*.pt")}


def test_the_autoencoder_of_record_is_used_and_said(record, digits, capsys):
    config = train_or_load(digits)
    assert config == load_vae(record)[2]
    said = capsys.readouterr().out
    assert f"autoencoder: {record}, of digits, epochs: 1" in said
    assert f"that is the one of record; --train trains your own, {OWN}" in said
    assert train_or_load(digits, "--resume") == config  # there is nothing to go on with
    assert own_files() == set()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--train", "--epochs", 1], ""),
        (["--seed", 1, "--epochs", 2], "record was trained with epochs=1, not 2; seed=0, not 1"),
    ],
)
def test_another_is_trained_in_runs(record, digits, capsys, options, said):
    config = train_or_load(digits, *options)
    assert said in capsys.readouterr().out
    assert own_files() == {"d2.pt", "d2.training.pt"}
    assert train_or_load(digits) == config  # from now on the user's own is used
    assert train_or_load(digits, "--results", "else") == load_vae(record)[2]


def test_make_run_trains_once_and_goes_on_where_it_was_stopped(record, digits, capsys):
    words = ["--train", "--resume", "--epochs"]
    train_or_load(digits, *words, 1)
    assert f"training {OWN}" in capsys.readouterr().out
    config = train_or_load(digits, *words, 2)
    assert f"going on with {OWN}" in capsys.readouterr().out
    assert len(config["history"]) == 2
    finished = OWN.read_bytes()
    assert train_or_load(digits, *words, 2) == config
    assert "it was trained already" in capsys.readouterr().out
    assert OWN.read_bytes() == finished


def test_make_run_uses_an_autoencoder_whose_training_state_is_gone(record, digits, capsys):
    config = train_or_load(digits, "--train", "--epochs", 1)
    OWN.with_name("d2.training.pt").unlink()
    finished = OWN.read_bytes()
    assert train_or_load(digits, "--train", "--resume") == config
    said = capsys.readouterr().out
    assert f"autoencoder: {OWN}, of digits, epochs: 1" in said
    assert "--train without --resume trains another in its place" in said
    afresh = "give --epochs 1 to use it, or leave out --resume to train afresh in its place, or"
    with pytest.raises(InputError, match=afresh):
        train_or_load(digits, "--train", "--resume", "--epochs", 2)
    assert OWN.read_bytes() == finished
    assert own_files() == {"d2.pt"}
    assert len(train_or_load(digits, "--train", "--epochs", 2)["history"]) == 2


def test_a_training_of_the_users_that_was_stopped_comes_before_the_record(record, digits):
    trained = train_or_load(digits, "--train", "--epochs", 1)
    OWN.unlink()  # as a stop leaves it
    with pytest.raises(InputError, match=r"add --resume, .* to take it up, or --train"):
        train_or_load(digits, "--epochs", 1)
    assert train_or_load(digits, "--resume", "--epochs", 1)["history"] == trained["history"]


@pytest.mark.parametrize(
    "named",
    ["results/digits/checkpoints/d2.pt", "results/../results/digits/checkpoints/d2.pt", "link.pt"],
)
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_nothing_is_trained_onto_a_checkpoint_outside_of_results(record, digits, named, resume):
    (trained_module.RECORD.parent / "link.pt").symlink_to(record)
    words = ["--checkpoint", named, "--train", "--epochs", 1, *resume]
    with pytest.raises(InputError) as error:
        train_or_load(digits, *words)
    assert f"{record} is not in --results runs, and nothing is trained else" in str(error.value)
    assert f"leave out --checkpoint (it will be {OWN})" in str(error.value)
    assert train_or_load(digits, *words[:2], *resume) == load_vae(record)[2]  # it may be read


@pytest.mark.parametrize("results", [".", "results/.."])
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_the_record_is_not_trained_onto_from_the_folder_that_holds_it(
    record, digits, results, resume
):
    words = ["--checkpoint", "results/digits/checkpoints/d2.pt", "--results", results]
    with pytest.raises(InputError) as error:
        train_or_load(digits, *words, "--train", "--epochs", 1, *resume)
    own = Path(results) / "digits/checkpoints/d2.pt"
    assert f"{record} is of record, which --results {results} is not, " in str(error.value)
    assert f"leave out --checkpoint (it will be {own})" in str(error.value)
    with pytest.raises(InputError, match=r"to use it, or leave out --checkpoint$"):
        train_or_load(digits, *words, "--epochs", 2, *resume)
    assert train_or_load(digits, *words, *resume) == load_vae(record)[2]  # it may be read
    assert train_or_load(digits, "--results", results, "--train", "--epochs", 1)
    assert own.is_file()


@pytest.mark.parametrize("link", [OWN, OWN.parent, OWN.parents[1]])
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_link_in_the_users_folder_does_not_lead_to_the_record(record, digits, link, resume):
    link.parent.mkdir(parents=True)
    there = Path("results", *link.parts[1:]).absolute()
    link.symlink_to(there, target_is_directory=there.is_dir())
    with pytest.raises(InputError) as error:
        train_or_load(digits, "--train", "--epochs", 1, *resume)
    remedy = f"elsewhere: remove the link {link}, or name another --results"
    assert str(error.value).endswith(remedy)
    with pytest.raises(InputError, match=r"give --epochs 1 to use it, or name another --results$"):
        train_or_load(digits, "--epochs", 2, *resume)
    link.unlink()
    assert len(train_or_load(digits, "--train", "--epochs", 1, *resume)["history"]) == 1


@pytest.mark.parametrize("named", [[], ["--checkpoint", "runs/mine.pt"]])
@pytest.mark.parametrize("options", [["--resume"], ["--train", "--resume"], ["--train"]])
def test_a_training_state_that_is_a_link_is_not_followed(record, digits, tmp_path, named, options):
    path = Path(named[1]) if named else OWN
    train_or_load(digits, *named, "--train", "--epochs", 1)
    state, elsewhere = path.with_name(f"{path.stem}.training.pt"), tmp_path / "elsewhere.pt"
    state.rename(elsewhere)
    state.symlink_to(elsewhere)
    before = path.read_bytes(), elsewhere.read_bytes()
    with pytest.raises(InputError) as error:
        train_or_load(digits, *named, "--epochs", 2, *options)
    mend = f"leave out --checkpoint (it will be {OWN})" if named else f"remove the link {state}, or"
    assert f"{elsewhere} is not in --results runs, " in str(error.value)
    assert mend in str(error.value)
    assert (path.read_bytes(), elsewhere.read_bytes()) == before


def test_the_state_beside_a_checkpoint_elsewhere_is_not_gone_on_with(record, digits, tmp_path):
    config = train_or_load(digits, "--results", "other", "--epochs", 1, "--train")
    path = tmp_path / "other" / "digits" / "checkpoints" / "d2.pt"
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert train_or_load(digits, "--checkpoint", path, "--resume") == config
    with pytest.raises(InputError, match="epochs=1, not 2: give --epochs 1 to use it"):
        train_or_load(digits, "--checkpoint", path, "--resume", "--epochs", 2)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--checkpoint", "results/digits/checkpoints/d2.pt"], "or leave out --checkpoint"),
        (["--results", "results"], "or name another --results, to train one there"),
    ],
)
def test_nobody_is_told_to_replace_what_another_has_made(record, digits, options, said):
    with pytest.raises(InputError) as error:
        train_or_load(digits, *options, "--epochs", 2)
    assert "was trained with epochs=1, not 2: give --epochs 1 to use it, " in str(error.value)
    assert str(error.value).endswith(said)
    assert "--train" not in str(error.value)


def test_a_checkpoint_that_does_not_say_its_data_set_is_not_asked_for_by_none(record, digits):
    vae = trained_module.Vae.load(record)
    del vae.config["dataset"]
    vae.save("mine.pt")
    with pytest.raises(InputError, match=r"set config\['dataset'\] of its Vae and save it again"):
        train_or_load(digits, "--checkpoint", "mine.pt")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kmnist", "give --dataset kmnist to use it, or leave out --checkpoint"),
        (
            "folder-my-photos-0a1b2c",
            "give --dataset folder:PATH, with the same images and folder name, to use it, or leave "
            "out --checkpoint",
        ),
        ("arrays of mine", "leave out --checkpoint"),  # which no option names
    ],
)
def test_a_checkpoint_of_other_images_is_asked_for_by_what_is_accepted(record, digits, name, said):
    vae = trained_module.Vae.load(record)
    vae.config["dataset"] = name
    vae.save("mine.pt")
    with pytest.raises(InputError) as error:
        train_or_load(digits, "--checkpoint", "mine.pt")
    assert str(error.value) == f"mine.pt was trained with dataset={name}, not digits: {said}"


def test_a_file_that_is_no_checkpoint_is_not_replaced(record, digits, tmp_path):
    notes = tmp_path / "notes.md"
    notes.write_text("mine")
    words = ["--checkpoint", notes, "--results", tmp_path, "--train", "--epochs", 1]
    with pytest.raises(InputError, match=r"is not a checkpoint .*it is kept: name another file"):
        train_or_load(digits, *words)
    assert notes.read_text() == "mine"


def test_a_checkpoint_that_is_not_there_says_where_it_was_looked_for(record, digits, tmp_path):
    seen = f"typo.pt is not a file, seen from the working directory {tmp_path}: give its full path"
    for folder, remedy in (("runs/", "add --train to train it"), ("", "leave out --checkpoint")):
        with pytest.raises(InputError) as error:
            train_or_load(digits, "--checkpoint", f"{folder}typo.pt")
        expected = f"--checkpoint {Path(folder) / seen}, name another, or {remedy}"
        assert str(error.value) == expected


def test_the_record_is_found_from_another_folder(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = make_parser("a script", latent_dim=4).parse_args([])
    mnist = digits._replace(name="mnist")  # whose checkpoint is shipped; no image is needed
    assert (
        load_or_train(args, mnist, Spec(4)).config
        == load_vae(ROOT / "results/checkpoints/d4.pt")[2]
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--frozen-decoder --train", "not in --results runs, and nothing is trained elsewhere"),
        ("--frozen-decoder", "d2.pt is trained already: use --guide-epochs"),
        ("--frozen-decoder --resume", "d2.pt is trained already: use --guide-epochs"),
        ("", "--epochs sets the training of the generator: use --guide-epochs, or add --frozen"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_compare_guides_leaves_the_record_as_it_was(record, capsys, options, said, named):
    if not named and "--train" in options:
        return  # which trains a generator in runs
    words = ["--dataset", "digits", "--latent-dim", "2", "--epochs", "1", *options.split()]
    if named:
        words += ["--checkpoint", "results/digits/checkpoints/d2.pt"]
    check_wrong_option(main_of("compare_guides"), words, said, Path("runs"), capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "add --train"),
        (["--checkpoint", "results/digits/checkpoints/d2.pt"], "put --train in place of --checkpo"),
        (["--results", "results"], "add --train, with another --results,"),
    ],
)
def test_compare_guides_says_how_another_generator_is_trained(record, digits, words, said):
    """Followed to the letter, it leaves what is there as it was."""
    parser = make_parser("a script", latent_dim=2)
    args = parser.parse_args(["--dataset", "digits", "--epochs", "1", *words])
    with pytest.raises(InputError) as error:
        check_epochs(args, digits)
    assert f"d2.pt is trained already: use --guide-epochs, or {said}" in str(error.value)
    assert str(error.value).endswith(" to train a generator of your own")
    assert len(train_or_load(digits, "--epochs", 2, "--train")["history"]) == 2
    assert own_files() == {"d2.pt", "d2.training.pt"}


def test_the_checkpoint_of_record_is_trained_again_where_it_is_deleted(
    digits, tmp_path, monkeypatch, capsys
):
    """As `make results` calls it: it is used for as long as it is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trained_module, "RECORD", tmp_path / "results")
    for _ in range(2):
        train_or_load(digits, "--results", "results", "--resume", "--epochs", 1)
        assert "autoencoder: training results/digits" in capsys.readouterr().out
        (tmp_path / "results/digits/checkpoints/d2.training.pt").unlink()  # as it is shipped
        train_or_load(digits, "--results", "results", "--resume")
        assert "training" not in capsys.readouterr().out
        shutil.rmtree(tmp_path / "results/digits/checkpoints")


class Begun(Exception):
    """Holds the folder of the results that a script has begun."""


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_results_makes_every_result_on_record(digits, monkeypatch):
    """But for the benchmark on a GPU. Each command is run up to where it locks its folder."""

    def begin(self, args, data, name):
        raise Begun(args.results / name)

    monkeypatch.setattr(Results, "__init__", begin)
    monkeypatch.setattr("experiments.cli.load_dataset", lambda *_: digits)
    lines = subprocess.run(
        ["make", "--dry-run", "results"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert any("delete results/checkpoints to train them too" in line for line in lines)
    commands = [line.split("-m experiments.")[1].split() for line in lines if "-m exp" in line]
    assert commands.pop() == ["report"]
    made = set()
    for script, *options in commands:
        with pytest.raises(Begun) as stop:
            run_main(main_of(script), *options)
        made.add(stop.value.args[0].as_posix())
    on_record = {
        path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("results/*/metrics.json")
    }
    assert made == on_record - {"results/benchmark_gpu"}


def test_a_script_says_where_its_results_go(digits, tmp_path, capsys):
    args = make_parser("a script").parse_args(["--results", str(tmp_path)])
    record_module.Results(args, digits, "question_z")
    assert f"results: in {tmp_path / 'digits' / 'question_z'}" in capsys.readouterr().out
