"""Every option of every script, given wrong: one line that names it, exit code 2."""

import re
import sys
from argparse import SUPPRESS

import pytest
from filelock import FileLock

from experiments.cli import Parser
from tests.commands import check_wrong_option, main_of

# of every script that has the option
SHARED = {
    "--dataset": [
        ("fashion", "argument --dataset: dataset 'fashion' is unknown: choose from mnist, digits"),
        ("folder:nowhere", "nowhere is not a folder: name one with image files in it"),
    ],
    "--hold-out": [
        ("1500", "--hold-out must be from 1 to 1499 training images, not 1500"),
        ("-1", "--hold-out must be from 1 to 1499 training images, not -1"),
        ("half", "argument --hold-out: invalid int value"),
    ],
    "--results": [("setup.cfg", "Not a directory; free some space, or name a folder")],
    "--device": [
        ("tpu", "--device 'tpu' is unknown"),
        ("cuda:99", "--device 'cuda:99' is not on this machine"),
        ("mps:1", "--device 'mps:1' is not supported: use cpu, cuda, cuda:N or mps"),
        ("cpu:3", "--device 'cpu:3' is not supported"),
        ("cpu:0", "--device 'cpu:0' is not supported"),
    ],
    "--latent-dim": [
        ("0", "--latent-dim must be a whole number >= 1"),
        ("2.5", "argument --latent-dim: invalid int value"),
    ],
    "--checkpoint": [
        ("typo.pt", "--checkpoint typo.pt is not a file"),
        (".", "--checkpoint . is a folder: name a file"),
        ("/ --train", "--checkpoint / is a folder: name a file"),
    ],
    "--epochs": [
        ("-1", "--epochs must be a whole number >= 0"),
        ("two", "argument --epochs: invalid int value"),
    ],
    "--batch-size": [("0", "--batch-size must be a whole number >= 1")],
    "--learning-rate": [
        ("nan", "--learning-rate must be a number from"),
        ("0", "--learning-rate must be a number from"),
    ],
    "--schedule": [("linear", "argument --schedule: invalid choice: 'linear'")],
    "--precision": [("int8", "--precision must be 'auto', 'float32' or 'bfloat16'")],
    "--seed": [("-1", "--seed must be a whole number from 0")],
    "--batch-parts": [("0", "--batch-parts must be a whole number >= 1")],
    "--objective": [("vae", "argument --objective: invalid choice: 'vae'")],
    "--particles": [
        ("0", "--particles must be a whole number >= 1, not 0"),
        ("0 --objective dreg", "--particles must be a whole number >= 1, not 0"),
        ("many", "argument --particles: invalid int value"),
    ],
}

SET_ITSELF = "this script sets it itself"
LEFT_OUT = (
    *("--train", "--checkpoint", "--batch-size", "--learning-rate", "--seed", "--batch-parts"),
    *("--schedule", "--objective", "--particles"),
)


def left_out(*options):
    """Rows of options that a script sets itself; one given its usual value is told apart too."""
    values = {"--device": "cuda", "--checkpoint": "typo.pt", "--learning-rate": "0.1"}
    values |= {
        "--objective": "elbo",
        "--schedule": "constant",
        "--precision": "float32",
        "--seed": "0",
        "--train": "",
        "--resume": "",
    }
    return {option: [(values.get(option, "2"), f"{option}: {SET_ITSELF}")] for option in options}


OWN = {
    "question_a": {
        "--show": [
            ("0 1 2 1500", "--show: no image 1500; choose from 0 to 1499"),
            ("0 1 2 -1", "--show: no image -1; choose from 0 to 1499"),
            ("1", "argument --show: expected 4 arguments"),
            ("5 5 6 7", "--show: [5, 5, 6, 7] must be four different images"),
        ],
        "--posterior-draws": [("0", "--posterior-draws must be >= 1")],
    },
    "question_b": {
        "--images": [
            ("19", "--images must be >= 20, not 19"),
            ("many", "argument --images: invalid int value"),
        ],
    },
    "question_c": {
        **{"--latent-dim": [], "--checkpoint": []},  # which it has not
        "--images": [("19", "--images must be >= 20, not 19")],
        "--seed": [
            *SHARED["--seed"],
            ("4294967295 --seeds 2", "--seed must be a whole number from 0 to 2**32 - 1"),
        ],
        "--seeds": [("0", "--seeds must be a whole number >= 1")],
    },
    "question_d": {
        "--images": [("19", "--images must be >= 20, not 19")],
        "--failure-epochs": [("0", "--failure-epochs must be >= 1, not 0")],
        "--failure-seeds": [("0", "--failure-seeds must be >= 1, not 0")],
        "--guide": [("prior", "argument --guide: invalid choice: 'prior'")],
    },
    "compare_guides": {
        "--guides": [
            ("mean_feild", "'mean_feild' is unknown: choose from mean_field, full_rank"),
            ("nowhere:Guide", "'nowhere:Guide' cannot be imported"),
            ("json:Guide", "'json:Guide' cannot be imported"),
            (":Guide", "':Guide' cannot be imported"),
            (".here:Guide", "'.here:Guide' cannot be imported"),
            ("json:loads", "loads(model) fails with TypeError"),
            ("prior,prior", "must differ"),
            ("prior,spline --latent-dim 1", "latent_dim >= 2"),
        ],
        "--epochs": [
            ("3", "--epochs sets the training of the generator: use --guide-epochs, or add --froz"),
            ("two", "argument --epochs: invalid int value"),
            ("-1 --frozen-decoder", "--epochs must be a whole number >= 0"),
        ],
        "--checkpoint": [
            ("typo.pt", "--checkpoint is of a generator that is trained before the guides: add"),
            ("typo.pt --frozen-decoder", "--checkpoint typo.pt is not a file"),
        ],
        "--guide-epochs": [("0", "--guide-epochs must be a whole number >= 1")],
        "--images": [("3", "--images must be >= 20")],
    },
    "distributed": {
        "--num-samples": [("0", "--num-samples must be >= 1, not 0")],
        "--images": [("0", "--images must be >= 1, not 0")],
    },
    "benchmark": {
        "--rounds": [("0", "--rounds must be >= 1, not 0")],
        "--images": [("1", "--images must be >= 2, not 1")],
        **left_out("--epochs", "--precision", "--resume", *LEFT_OUT),
    },
    "equal_quality": {
        "--pairs": [("1", "--pairs must be >= 2, not 1")],
        "--images": [("1", "--images must be >= 2, not 1")],
        "--epochs": [("0", "--epochs must be >= 1, not 0")],
        **left_out(*LEFT_OUT),
    },
    "time_to_quality": {
        "--seeds": [("1", "--seeds must be >= 2, not 1")],
        "--images": [("1", "--images must be >= 2, not 1")],
        "--peak": [("high", "argument --peak: invalid float value")],
        **left_out("--epochs", *LEFT_OUT),
    },
    "many_machines": {
        "--num-samples": [("1", "--num-samples must be >= 2, not 1")],
        "--images": [("0", "--images must be >= 1, not 0")],
        "--blocks": [("0", "--blocks must be >= 1, not 0")],
    },
    "published": {
        "--latent-dim": [],
        "--checkpoint": [],  # which it has not
        "--images": [("19", "--images must be >= 20, not 19")],
        "--budgets": [
            ("1 1 0", "--budgets must be >= 1, not 0"),
            ("1 1", "argument --budgets: expected 3 arguments"),
        ],
        **left_out("--epochs", "--precision", *LEFT_OUT[:1], *LEFT_OUT[2:]),
    },
    "in_brief": {
        **{"--latent-dim": [], "--checkpoint": []},  # which it has not
        "--images": [("19", "--images must be >= 20, not 19")],
        "--train": [("", f"--train: {SET_ITSELF}")],
    },
    "explorer": {
        "--latent-dim": [],
        "--images": [("19", "--images must be >= 20, not 19")],
        "--train": [("", f"--train: {SET_ITSELF}")],
        "--checkpoint": [("typo.pt", "typo.pt is not a file")],
    },
    "completions": {"--num-samples": [("1", "--num-samples must be >= 2, not 1")]},
    "report": {"--results": [("nowhere", "--results: nowhere is not a folder")]},
}
# those without a value, which are right for most scripts; and --data-root, which `test_script`
# tests, since only MNIST asks for it
ELSEWHERE = {
    "--help",
    "--closed",
    "--train",
    "--resume",
    "--frozen-decoder",
    "--refined",
    "--data-root",
}


def rows(script):
    """Every wrong use in the tables of an option of `script`: (words, message)."""
    own = OWN[script]
    return [
        ([option, *value.split()], message)
        for option, cases in (own if script == "report" else SHARED | own).items()
        for value, message in cases
    ]


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [pytest.param(s, *row, id=f"{s} {' '.join(row[0])}") for s in OWN for row in rows(s)],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(tmp_path, capsys, script, words, message):
    main = main_of(script)
    given = [] if script == "report" else ["--dataset", "digits"]
    results = tmp_path / "results"
    check_wrong_option(main, [*given, *words], message, results, capsys)


@pytest.mark.parametrize("script", ["question_a", "question_b", "question_d", "compare_guides"])
@pytest.mark.parametrize(
    "words", [["--device", "tpu"], ["--latent-dim", "0"], ["--batch-size", "0"], ["--seed", "-1"]]
)
def test_a_wrong_option_is_known_before_any_data(tmp_path, monkeypatch, capsys, script, words):
    """And before a folder is made, though MNIST is nowhere and would be downloaded."""
    main = main_of(script)
    monkeypatch.setattr("experiments.cli.load_dataset", lambda *_: pytest.fail("data was loaded"))
    results = tmp_path / "results"
    ((_, message),) = (row for row in rows(script) if row[0] == words)
    check_wrong_option(main, words, message, results, capsys)
    assert not results.exists()


FOLDERS = {
    "question_a": "question_a",
    "question_b": "question_b",
    "question_c": "question_c",
    "question_d": "question_d",
    "compare_guides": "compare_guides_joint_d4",
    "distributed": "distributed",
    "benchmark": "benchmark",
    "equal_quality": "equal_quality",
    "published": "published",
    "time_to_quality": "time_to_quality",
    "many_machines": "many_machines",
    "completions": "completions",
    "in_brief": "in_brief",
}


@pytest.mark.parametrize("script", FOLDERS)
def test_a_folder_that_another_run_writes_to_is_refused_at_once(tmp_path, capsys, script):
    folder = tmp_path / "digits" / FOLDERS[script]
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):  # as another run has it
        main = main_of(script)
        message = f"another run is writing to {folder}: wait for it"
        check_wrong_option(main, ["--dataset", "digits"], message, tmp_path, capsys)


@pytest.mark.parametrize("script", OWN)
def test_every_option_is_in_the_tables(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", "--help"])
    with pytest.raises(SystemExit):
        main_of(script)()
    named = re.findall(r"^ +(?:-h, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    hidden = {words[0] for words, message in rows(script) if SET_ITSELF in message}
    assert not hidden & {*named}
    assert {words[0] for words, _ in rows(script)} - ELSEWHERE - hidden == {*named} - ELSEWHERE


@pytest.mark.parametrize("script", OWN)
def test_help_says_what_each_option_is_and_its_default_once(script, monkeypatch):
    def asked(parser):
        raise Asked(parser)

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(Parser, "parse_args", asked)
    monkeypatch.setattr(sys, "argv", ["script"])
    with pytest.raises(Asked) as stop:
        main_of(script)()
    (parser,) = stop.value.args
    text = parser.format_help()
    assert "None" not in text
    assert max(map(len, text.splitlines())) <= 80
    for action in parser._actions:
        assert action.help.strip(), action.dest
        assert action.help[0] != "(", action.dest  # a default without a word
        said = action.help.count("(default:")
        has_default = action.nargs != 0 and action.default is not None  # nargs 0: a switch
        assert said <= 1, action.dest
        assert said or not has_default or action.help == SUPPRESS, action.dest


class Asked(Exception):
    """Holds the parser that a script asks for its options."""


@pytest.mark.parametrize(
    "words", [["--nonsense"], ["--checkpoint", "d4.pt"], ["--latent-dim", "4"]]
)
def test_an_option_that_a_script_has_not_is_one_line(tmp_path, capsys, words):
    main = main_of("question_c")
    message = f"unrecognized arguments: {' '.join(words)}"
    check_wrong_option(main, words, message, tmp_path / "results", capsys)
