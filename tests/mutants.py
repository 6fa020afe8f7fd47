"""Which faults, planted one at a time in the estimators and statistics, do their tests miss?

    python -m tests.mutants [--each N] [MODULE ...]

cosmic-ray plants the faults: another operator, another number, a condition turned round. Of each
module N are drawn at random, the same ones every time. The module's own tests are run on each, and
those of bad input and of progress bars that call its functions. All faults would take a day. It
works in a copy, build/mutants, and goes on where it was stopped. Whoever survives is printed: give
it a test, or say why the program is the same with it.
"""

import argparse
import ast
import random
import subprocess
import sys
from pathlib import Path

from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult

ROOT = Path(__file__).parents[1]
# Their cases are named after the functions that they call.
BY_NAME = "tests/test_bad_input.py tests/test_progress.py"
COPY = ROOT / "build" / "mutants"
SEED = 29
# Each module, and the tests that must notice a fault in it.
TESTS = {
    "pyro_vae/likelihood/annealing.py": "tests/likelihood/test_annealing.py",
    "pyro_vae/likelihood/coordinates.py": "tests/likelihood/test_coordinates.py",
    "pyro_vae/likelihood/estimate.py": "tests/likelihood/test_estimate.py",
    "pyro_vae/likelihood/importance.py": (
        "tests/likelihood/test_importance.py tests/likelihood/test_traces.py"
    ),
    "pyro_vae/likelihood/intervals.py": "tests/likelihood/test_intervals.py",
    "pyro_vae/likelihood/masking.py": "tests/likelihood/test_masking.py",
    "pyro_vae/likelihood/psis.py": "tests/likelihood/test_psis.py",
    "pyro_vae/likelihood/quadrature.py": "tests/likelihood/test_quadrature.py",
    "pyro_vae/likelihood/traces.py": "tests/likelihood/test_traces.py",
    "pyro_vae/likelihood/unlabelled.py": "tests/likelihood/test_unlabelled.py",
    "pyro_vae/guides/refined.py": "tests/guides/test_refined.py",
    "pyro_vae/guides/laplace.py": "tests/guides/test_refined.py",
    "pyro_vae/guides/adaptive.py": "tests/guides/test_refined.py",
    "pyro_vae/guides/student.py": "tests/guides/test_refined.py",
    "pyro_vae/guides/starts.py": "tests/guides/test_starts.py",
    "pyro_vae/guides/score_matching.py": "tests/guides/test_score_matching.py",
    "pyro_vae/guides/posterior.py": "tests/guides/test_posterior.py tests/guides/test_refined.py",
    "pyro_vae/guides/gauss_newton.py": "tests/guides/test_gauss_newton.py",
    "pyro_vae/analysis/calibration.py": "tests/analysis/test_calibration.py",
    "pyro_vae/analysis/comparison.py": "tests/analysis/test_comparison.py",
}
CONFIG = """[cosmic-ray]
module-path = "{module}"
timeout = 300.0
excluded-modules = []
test-command = "{python} -m pytest -x -q -p no:cacheprovider {tests} {by_name} -k '{names}'"
[cosmic-ray.distributor]
name = "local"
"""


def survivors(module: str, each: int) -> tuple[int, list[str]]:
    """Plant `each` faults in a module; return how many were tried, and those that were missed."""
    name = module.replace("/", "_").removesuffix(".py")
    config, session = COPY / f"{name}.toml", COPY / f"{name}.sqlite"
    if not session.exists():
        tests = {"tests": TESTS[module], "by_name": BY_NAME, "names": _names(module)}
        config.write_text(CONFIG.format(module=module, python=sys.executable, **tests))
        subprocess.run(["cosmic-ray", "init", config.name, session.name], cwd=COPY, check=True)
        with use_db(session) as found:
            items = sorted(found.work_items, key=lambda item: _place(item.mutations[0]))
            # whether arguments are checked is another test's: tests/test_arguments.py
            jobs = [i.job_id for i in items if "RemoveDecorator" not in _place(i.mutations[0])]
            chosen = {*random.Random(SEED).sample(jobs, min(each, len(jobs)))}
            others = [item.job_id for item in items if item.job_id not in chosen]
            found.set_multiple_results(others, WorkResult(WorkerOutcome.SKIPPED))
    subprocess.run(["cosmic-ray", "exec", config.name, session.name], cwd=COPY, check=True)
    with use_db(session) as found:
        done = [(item, result) for item, result in found.completed_work_items if result.diff]
    missed = [
        f"{module}:{item.mutations[0].start_pos[0]}\n{result.diff}"
        for item, result in done
        if result.test_outcome == TestOutcome.SURVIVED
    ]
    return len(done), missed


def _names(module: str) -> str:
    """Return what pytest selects a module's tests by: their files, its functions and classes."""
    body = ast.parse((COPY / module).read_text()).body
    public = [n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    files = [Path(tests).stem for tests in TESTS[module].split()]
    return " or ".join([*files, *(name for name in public if not name.startswith("_"))])


def _place(fault: MutationSpec) -> tuple[str, int]:
    return fault.operator_name.removeprefix("core/"), fault.occurrence


def main() -> None:
    """Plant faults in the modules that are named, or in all, and print the survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help="of the package (default: all)"
    )
    parser.add_argument("--each", type=int, default=40, help="faults in each (default: 40)")
    args = parser.parse_args()
    unknown = sorted({*args.modules} - TESTS.keys())
    if unknown:
        parser.error(f"{unknown[0]} is not one of {', '.join(TESTS)}")
    if not COPY.exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(COPY)], check=True)
    tried = missed = 0
    for module in args.modules or TESTS:
        count, survived = survivors(module, args.each)
        print("\n".join([*survived, f"{module}: {count - len(survived)} of {count} noticed"]))
        tried, missed = tried + count, missed + len(survived)
    print(f"{tried - missed} of {tried} planted faults were noticed ({1 - missed / tried:.0%})")


if __name__ == "__main__":
    main()
