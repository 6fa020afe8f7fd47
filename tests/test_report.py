"""Every number in the report that is followed by <!--experiment:path--> is the one in its metrics.

The path names an entry of results/<experiment>/metrics.json; the number must equal it to the
decimals shown. A share may be shown as a percentage.
"""

import json
import re
from functools import reduce
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "results"
QUOTED = re.compile(r"([-−]?[\d,]*\.?\d+)(%?)<!--(\w+):([^>]+)-->")


def quotations():
    return QUOTED.findall((RESULTS / "README.md").read_text())


def entry(experiment, path):
    metrics = json.loads((RESULTS / experiment / "metrics.json").read_text())

    def step(value, key):
        return value[int(key)] if isinstance(value, list) else value[key]

    return reduce(step, path.split("/"), metrics)


@pytest.mark.parametrize(("shown", "percent", "experiment", "path"), quotations())
def test_the_report_quotes_its_metrics(shown, percent, experiment, path):
    number = shown.replace("−", "-").replace(",", "")
    decimals = len(number.partition(".")[2])
    value = entry(experiment, path) * (100 if percent else 1)
    assert abs(float(number) - value) <= 0.5000001 * 10**-decimals


def test_the_report_quotes_something():
    assert len(quotations()) > 10


def test_every_figure_in_the_report_is_there():
    named = re.findall(r"\]\(([\w/.]+\.png)\)", (RESULTS / "README.md").read_text())
    assert named
    for name in named:
        assert (RESULTS / name).is_file(), name
