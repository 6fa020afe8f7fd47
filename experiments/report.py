"""Write the pages of answers: their texts with the numbers that the experiments found.

Every page is a file of experiments/pages/, at the place that it has in the repository. In its text
`{question_b:guide_100/summary/mean:.2f}` stands for the number at that path of
results/question_b/metrics.json, in that format of Python's. `|.2f` leaves its sign away. So a
number can't differ from the metrics. What is said about it can: read the changed lines again.

    python -m experiments.report
"""

import json
import re
from functools import cache, reduce
from pathlib import Path

from experiments.cli import Parser, run
from pyro_vae.errors import InputError
from pyro_vae.storage.files import atomic_write

PAGES = Path(__file__).parent / "pages"
FIELD = re.compile(r"\{(\w+):([^{}]+):([^{}:]+)\}")  # experiment, path, format


def entry(metrics: dict, path: str) -> float:
    """Return the number at `path`: keys and indices, joined by slashes; KeyError if none."""
    number = reduce(
        lambda value, key: value[int(key)] if isinstance(value, list) else value[key],
        path.split("/"),
        metrics,
    )
    if not isinstance(number, int | float):
        raise KeyError(path)
    return number


def shown(value: float, form: str) -> str:
    """Return `value` in a format of Python's, with a proper minus sign, and none before zero."""
    text = format(abs(value), form[1:]) if form.startswith("|") else format(value, form)
    if not re.search("[1-9]", text):
        text = text.replace("-", "")
    return text.replace("-", "−")


def rendered(text: str, results: Path) -> str:
    """Return the text of a page with its numbers; InputError names one that is not there."""

    @cache
    def metrics(experiment: str) -> dict:
        return json.loads((results / experiment / "metrics.json").read_text("utf-8"))

    def number(field: re.Match) -> str:
        experiment, path, form = field.groups()
        try:
            return shown(entry(metrics(experiment), path), form)
        except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
            raise InputError(
                f"a page quotes {field.group()}, which is not in {results} as a number: run the "
                f"experiment, or change the page in {PAGES}"
            ) from error

    return FIELD.sub(number, text)


def pages(results: Path) -> dict[Path, str]:
    """Return the text of each page with its numbers, by its path: beside `results`, or in it."""
    found = {}
    for page in sorted(PAGES.rglob("*.md")):
        place = page.relative_to(PAGES)
        if place.parts[0] == "results":
            path = results.joinpath(*place.parts[1:])
        else:
            path = results.absolute().parent / place
        found[path] = rendered(page.read_text("utf-8"), results)
    return found


def changed_lines(path: Path, text: str) -> list[str]:
    """Return the lines of `text` that the file at `path` does not have."""
    try:
        before = set(path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        before = set()
    return [line for line in text.splitlines() if line not in before]


def main() -> None:
    """Write all pages, and print the lines that have changed."""
    name = "python -m experiments.report"
    parser = Parser(prog=name, usage=f"{name} [options]", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        help="folder of the metrics; the pages are in it and beside it (default: %(default)s)",
    )
    results = parser.parse_args().results
    if not results.is_dir():
        raise InputError(f"--results: {results} is not a folder")
    print(f"report: the pages of answers, with the numbers in {results}")
    texts = pages(results)
    num_changed = 0
    for path, text in texts.items():
        changed = changed_lines(path, text)
        num_changed += len(changed)
        print("\n".join(f"{path}: {line}" for line in changed), end="\n" if changed else "")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            partial.write_text(text, "utf-8", newline="\n")
    print(f"{num_changed} lines changed on {len(texts)} pages")


if __name__ == "__main__":
    run(main)
