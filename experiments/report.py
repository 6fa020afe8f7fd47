"""Bring the numbers in results/README.md up to date with the metrics they are quoted from.

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

from pyro_vae.errors import InputError
from pyro_vae.files import whole_file
from pyro_vae.script import Parser, run

QUOTED = re.compile(r"([-−]?[\d,]*\.?\d+)(%?)<!--(\w+):([^>]+)-->")


def entry(results: Path, experiment: str, path: str) -> float:
    """The number at `path`, keys and indices with slashes between, in an experiment's metrics."""
    try:
        metrics = json.loads((results / experiment / "metrics.json").read_text())
        return reduce(
            lambda value, key: value[int(key)] if isinstance(value, list) else value[key],
            path.split("/"),
            metrics,
        )
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise InputError(
            f"results/README.md quotes {experiment}:{path}, which is not in {results}: "
            "run the experiment, or change the quotation"
        ) from error


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
    parser = Parser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of the report"
    )
    args = parser.parse_args()
    path = args.results / "README.md"
    if not path.is_file():
        raise InputError(f"--results: {path} is not a file")
    before = path.read_text()
    after = update(before, args.results)
    with whole_file(path) as partial:
        partial.write_text(after)
    changed = [
        f"{old} is now {new}: {experiment}:{entry_path}"
        for (old, p, experiment, entry_path), (new, q, *_) in zip(
            QUOTED.findall(before), QUOTED.findall(after), strict=True
        )
        if (old, p) != (new, q)
    ]
    print("\n".join([*changed, f"{len(changed)} of {len(QUOTED.findall(after))} numbers changed"]))


if __name__ == "__main__":
    run(main)
