"""Run a script as `python -m experiments.NAME` does, on a third of the digits' test images.

    python -m tests.few_digits NAME OPTIONS

Most of a script's time goes to scoring test images; what the tests check holds for 100 as for 297.
Annealing is shorter, the published table has fewer samples, the exact posterior fewer cells, and
in_brief trains for fewer epochs.
"""

import runpy
import sys

from experiments import published, question_d
from experiments.question_b import enough
from experiments.question_d import theory
from pyro_vae.data import loading

TEST_IMAGES = 100
all_digits = loading.load_digits


def few_digits():
    digits = all_digits()
    return digits._replace(
        test_images=digits.test_images[:TEST_IMAGES], test_labels=digits.test_labels[:TEST_IMAGES]
    )


if __name__ == "__main__":
    loading.load_digits = few_digits
    enough.STEPS.update(encoder=20, prior=20)
    published.NUM_SAMPLES = 1000
    theory.POINTS = 101
    question_d.TRAINING["epochs"] = 2  # of the script that takes them from there
    del sys.argv[0]
    runpy.run_module(f"experiments.{sys.argv[0]}", run_name="__main__", alter_sys=True)
