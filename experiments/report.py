"""Bring the numbers in the READMEs up to date with the metrics they are quoted from.

They are results/README.md and, where it quotes any, the README.md beside the results folder.

A number followed by <!--experiment:path--> is the entry `path` of an experiment's metrics.json. It
keeps the decimals and the form, a percentage for instance, that it is shown in. The sentences
around it are for a person to read again.

    python -m experiments.report
"""

import argparse
import json
import re
from functools import reduce
from pathlib import Path

from experiments.cli import Parser, run
from pyro_vae.errors import InputError
from pyro_vae.storage.files import atomic_write

QUOTED = re.compile(r"([-−]?[\d,]*\.?\d+)(%?)<!--(\w+):([^>]+)-->")


def entry(results: Path, experiment: str, path: str) -> float:
    """The number at `path`, keys and indices with slashes between, in an experiment's metrics."""
    try:
        metrics = json.loads((results / experiment / "metrics.json").read_text())
        number = reduce(
            lambda value, key: value[int(key)] if isinstance(value, list) else value[key],
            path.split("/"),
            metrics,
        )
        if not isinstance(number, int | float):
            raise TypeError(f"{number!r} is no number")
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise InputError(
            f"the report quotes {experiment}:{path}, which is not in {results} as a number: "
            "run the experiment, or change the quotation"
        ) from error
    return number


def shown(value: float, like: str, percent: str) -> str:
    """`value` in the form of the number `like`: its decimals, commas if it is long enough, sign."""
    decimals = len(like.partition(".")[2])
    text = f"{value * (100 if percent else 1):,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.replace("-", "")
    return text.replace("-", "−") + percent


def update(text: str, results: Path) -> str:
    """`text` with every quoted number brought up to date."""

    def renewed(found: re.Match) -> str:
        like, percent, experiment, path = found.groups()
        number = shown(entry(results, experiment, path), like, percent)
        return f"{number}<!--{experiment}:{path}-->"

    return QUOTED.sub(renewed, text)


def main() -> None:
    """Rewrite the two README files of a results folder with its numbers as they are."""
    parser = Parser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of the report"
    )
    args = parser.parse_args()
    report, beside = args.results / "README.md", args.results.absolute().parent / "README.md"
    if not report.is_file():
        raise InputError(f"--results: {report} is not a file")
    print(f"report: the numbers in {report}, and in the README.md beside that folder")
    try:
        texts = {path: path.read_text("utf-8") for path in (report, beside) if path.is_file()}
    except UnicodeDecodeError as error:
        raise InputError(f"--results: {report}, or the one beside it, is no UTF-8") from error
    renewed = {path: update(text, args.results) for path, text in texts.items()}
    changed, quoted = [], 0
    for path, before in texts.items():
        found = list(zip(QUOTED.findall(before), QUOTED.findall(renewed[path]), strict=True))
        quoted += len(found)
        changed += [
            f"{old[0]} is now {new[0]}: {old[2]}:{old[3]}" for old, new in found if old != new
        ]
        if renewed[path] != before:
            with atomic_write(path) as partial:
                partial.write_text(renewed[path], "utf-8")
    print("\n".join([*changed, f"{len(changed)} of {quoted} numbers changed in {report}"]))


if __name__ == "__main__":
    run(main)
