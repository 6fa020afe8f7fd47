"""Every number in the READMEs that is followed by <!--experiment:path--> is the one in its metrics.

The path names an entry of results/<experiment>/metrics.json; the number must equal it to the
decimals shown. A share may be shown as a percentage.
"""

import json
import re
from pathlib import Path

import pytest

from experiments.report import QUOTED, entry, update
from tests.commands import main_of, run_main

RESULTS = Path(__file__).parents[2] / "results"
READMES = (RESULTS / "README.md", RESULTS.parent / "README.md")


def quotations():
    return [found for path in READMES for found in QUOTED.findall(path.read_text())]


def is_right(shown, percent, experiment, path):
    number = shown.replace("−", "-").replace(",", "")
    decimals = len(number.partition(".")[2])
    value = entry(RESULTS, experiment, path) * (100 if percent else 1)
    return abs(float(number) - value) <= 0.5000001 * 10**-decimals


@pytest.mark.parametrize("experiment", sorted({quotation[2] for quotation in quotations()}))
def test_the_report_quotes_its_metrics(experiment):
    quoted = [quotation for quotation in quotations() if quotation[2] == experiment]
    assert [quotation for quotation in quoted if not is_right(*quotation)] == []


def test_the_report_quotes_something():
    assert len(quotations()) > 10


def test_every_figure_in_the_report_is_there():
    named = re.findall(r"\]\(([\w/.]+\.png)\)", (RESULTS / "README.md").read_text())
    assert named
    for name in named:
        assert (RESULTS / name).is_file(), name


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "results"
    (folder / "trial").mkdir(parents=True)
    metrics = {
        "a": {"b": [1.0, -1234.567]},
        "share": 0.4567,
        "none": -0.001,
        "unknown": None,
        "text": "1",
    }
    (folder / "trial" / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_numbers_are_brought_up_to_date_in_the_form_they_have(report):
    before = "x −3.1<!--trial:a/b/1--> y 12%<!--trial:share--> z 7.00<!--trial:none--> w 5 8"
    after = update(before, report)
    assert after == (
        "x −1,234.6<!--trial:a/b/1--> y 46%<!--trial:share--> z 0.00<!--trial:none--> w 5 8"
    )
    assert update(after, report) == after


def test_the_command_says_what_it_changed(report, capsys):
    (report / "README.md").write_text("2<!--trial:a/b/0--> and 46%<!--trial:share-->\n")
    run_main(main_of("report"), "--results", report)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("report: the numbers in ")
    assert said[1:] == [
        "2 is now 1: trial:a/b/0",
        f"1 of 2 numbers changed in {report / 'README.md'}",
    ]
    assert (report / "README.md").read_text().startswith("1<!--trial:a/b/0--> and 46%<!--")
    beside = report.parent / "README.md"
    beside.write_text("some text, and 3.0<!--trial:a/b/0-->\n")
    run_main(main_of("report"), "--results", report)
    assert capsys.readouterr().out.splitlines()[1] == "3.0 is now 1.0: trial:a/b/0"
    assert beside.read_text() == "some text, and 1.0<!--trial:a/b/0-->\n"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"2<!--trial:a/c-->\n", "quotes trial:a/c, which is not in"),
        (b"2<!--trial:a-->\n", "quotes trial:a, which is not in"),
        (b"2<!--trial:a/b/2-->\n", "quotes trial:a/b/2, which is not in"),
        (b"2<!--trial:unknown-->\n", "quotes trial:unknown, which is not in"),
        (b"2<!--trial:text-->\n", "quotes trial:text, which is not in"),
        (b"\xff\xfe2<!--trial:a/b/0-->\n", "is no UTF-8"),
    ],
)
def test_a_quotation_of_no_number_changes_nothing(report, capsys, written, said):
    (report / "README.md").write_bytes(written)
    with pytest.raises(SystemExit) as stop:
        run_main(main_of("report"), "--results", report)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert (report / "README.md").read_bytes() == written
