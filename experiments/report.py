"""Bring the numbers in the READMEs up to date with the metrics they are quoted from.

The READMEs are results/README.md and the README.md beside the results folder, if there is one.

A number followed by <!--experiment:path--> quotes the entry `path` of an experiment's metrics.json.
The new number is written with the decimals of the old one, and as a percentage if that was one.
A person must then read the sentences around it again.

    python -m experiments.report
"""

import json
import re
from functools import reduce
from pathlib import Path

from experiments.cli import Parser, run
from pyro_vae.errors import InputError
from pyro_vae.storage.files import atomic_write

QUOTED = re.compile(r"([-−]?[\d,]*\.?\d+)(%?)<!--(\w+):([^>]+)-->")


def entry(results: Path, experiment: str, path: str) -> float:
    """Return the number at `path` in an experiment's metrics: keys and indices, joined by slashes.

    Raises InputError if there is no number.
    """
    try:
        metrics = json.loads((results / experiment / "metrics.json").read_text("utf-8"))
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
    """Return `value` as text, with the decimals of `like` and commas between thousands."""
    decimals = len(like.partition(".")[2])
    text = f"{value * (100 if percent else 1):,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.replace("-", "")  # no -0.00
    return text.replace("-", "−") + percent


def update(text: str, results: Path) -> str:
    """Return `text` with every quoted number brought up to date."""

    def renew(quotation: re.Match) -> str:
        like, percent, experiment, path = quotation.groups()
        number = shown(entry(results, experiment, path), like, percent)
        return f"{number}<!--{experiment}:{path}-->"

    return QUOTED.sub(renew, text)


def main() -> None:
    """Bring both README files of a results folder up to date, and print what has changed."""
    name = "python -m experiments.report"
    parser = Parser(prog=name, usage=f"{name} [options]", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        help="folder of the report and of the metrics that it quotes (default: %(default)s)",
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
    changed, num_quoted = [], 0
    for path, before in texts.items():
        pairs = list(zip(QUOTED.findall(before), QUOTED.findall(renewed[path]), strict=True))
        num_quoted += len(pairs)
        changed += [
            f"{old[0]} is now {new[0]}: {old[2]}:{old[3]}" for old, new in pairs if old != new
        ]
        if renewed[path] != before:
            with atomic_write(path) as partial:
                partial.write_text(renewed[path], "utf-8", newline="\n")
    print("\n".join([*changed, f"{len(changed)} of {num_quoted} numbers changed in {report}"]))


if __name__ == "__main__":
    run(main)
