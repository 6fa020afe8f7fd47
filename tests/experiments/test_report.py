"""The pages of answers are their texts with the numbers of the metrics, and lead nowhere wrong."""

import json
import re

import pytest

from experiments import report
from pyro_vae import InputError
from tests.commands import ROOT, main_of, run_main

WRITTEN = report.pages(ROOT / "results")


@pytest.mark.parametrize("path", WRITTEN, ids=str)
def test_a_page_is_its_text_with_the_numbers_of_the_metrics(path):
    assert path.read_text("utf-8") == WRITTEN[path], "change experiments/pages, then make it again"


def test_the_pages_quote_many_numbers():
    texts = [page.read_text("utf-8") for page in report.PAGES.rglob("*.md")]
    assert sum(len(report.FIELD.findall(text)) for text in texts) > 100


@pytest.mark.parametrize("path", WRITTEN, ids=str)
def test_every_figure_and_file_that_a_page_names_is_there(path):
    named = re.findall(r"\]\(([\w/.-]+)(?:#[\w-]+)?\)", WRITTEN[path])
    assert [name for name in named if not (path.parent / name).exists()] == []


@pytest.mark.parametrize(
    ("pages", "most"),
    [("README.md", 1000), ("results/README.md", 2500), ("results/**/*.md", 9000)],
)
def test_the_pages_are_short(pages, most):
    assert sum(len(page.read_text("utf-8").split()) for page in ROOT.glob(pages)) <= most


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results folder with one experiment, and a folder of pages that is still empty."""
    folder = tmp_path / "results"
    (folder / "trial").mkdir(parents=True)
    metrics = {"a": {"b": [1.0, -1234.567]}, "share": 0.4567, "none": -0.001}
    metrics |= {"unknown": None, "text": "1"}
    (folder / "trial" / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setattr(report, "PAGES", tmp_path / "pages")
    (report.PAGES / "results").mkdir(parents=True)
    return folder


def test_numbers_have_the_form_that_is_asked_for(results):
    text = "x {trial:a/b/1:,.1f} y {trial:share:.0%} z {trial:none:.2f} w {trial:a/b/1:|.0f}"
    assert report.rendered(text, results) == "x −1,234.6 y 46% z 0.00 w 1235"
    code = 'compare({"mine": mine}, f"{x:.2f}")'
    assert report.rendered(code, results) == code


def test_the_command_writes_the_pages_and_says_what_changed(results, capsys):
    (report.PAGES / "results" / "deep").mkdir()
    (report.PAGES / "results" / "deep" / "README.md").write_text(
        "{trial:a/b/0:.1f} and {trial:share:.0%}\n"
    )
    (report.PAGES / "README.md").write_text("all\nof it: {trial:share:.3f}\n")
    (results.parent / "README.md").write_text("all\nof it: 0.123\n")
    run_main(main_of("report"), "--results", results)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("report: the pages of answers")
    assert said[1:] == [
        f"{results.parent / 'README.md'}: of it: 0.457",
        f"{results / 'deep' / 'README.md'}: 1.0 and 46%",
        "2 lines changed on 2 pages",
    ]
    assert (results / "deep" / "README.md").read_text() == "1.0 and 46%\n"
    run_main(main_of("report"), "--results", results)
    assert capsys.readouterr().out.splitlines()[1:] == ["0 lines changed on 2 pages"]


@pytest.mark.parametrize(
    "field",
    [
        "trial:a/c:.1f",
        "trial:a:.1f",
        "trial:a/b/2:.1f",
        "trial:unknown:.1f",
        "trial:text:.1f",
        "no:a:.1f",
        "trial:share:nonsense",
    ],
)
def test_a_quotation_of_no_number_changes_nothing(results, field):
    (report.PAGES / "results" / "README.md").write_text(f"text {{{field}}}\n")
    (results / "README.md").write_text("before\n")
    with pytest.raises(InputError, match=re.escape(f"quotes {{{field}}}, which is not in")):
        report.pages(results)
    with pytest.raises(SystemExit):
        run_main(main_of("report"), "--results", results)
    assert (results / "README.md").read_text() == "before\n"
