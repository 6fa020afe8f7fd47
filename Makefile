# make run           install into .venv, train the d = 4 autoencoder, draw (a) in runs/, then one
#                    figure each of (b), (c) and (d)
# make explore       a page to play with the autoencoders, in runs/; opened in the browser
# make results       make the results of record again, in results/: about 12 hours on 2 cores, with
#                    the checkpoints that are there; delete results/checkpoints to train them too
# make test          install into .venv, lint, test: 5 to 8 minutes (MNIST tests run where MNIST is)
# make test-scripts  run every script in small, and score all test images: 10 to 15 minutes
# make test-all      both, and the slow tests: every experiment twice, and more: an hour and more
# make mutants       plant faults in the estimators and see whether the tests notice: hours
# make docs          the API's pages, in docs/api/
# CPU=1 beside any of them: install torch without CUDA's libraries, 1 GB in place of 6
PYTHON ?= python3
VENV ?= .venv
CPU ?=
CPU_INDEX = https://download.pytorch.org/whl/cpu
BIN = $(VENV)/bin
# where equal_quality is measured: on record it was on a GPU, make results DEVICE=cuda
DEVICE ?= cpu
# as good an ELBO as the appendix's ten epochs at a constant rate, in four
QUICKLY = --schedule one_cycle --epochs 4 --batch-size 50 --learning-rate 6e-3
ON_RECORD = --results results --resume
# a process for each of two cores, each with one thread: half of the time of one process with two
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

.PHONY: run explore results test test-scripts test-all mutants lint format docs install clean

run: install
	$(BIN)/python -m experiments.question_a --dataset auto --results runs --train --resume $(QUICKLY)
	$(BIN)/python -m experiments.in_brief --dataset auto --results runs

explore: install
	$(BIN)/python -m experiments.explorer --results runs

# those on a GPU, results/benchmark_gpu, are made by hand: benchmark --results results --device cuda
results: install
	@echo "The results of record, made again in results/: about 12 hours on 2 cores, with the"
	@echo "checkpoints that are there; delete results/checkpoints to train them too."
	@echo "If it is stopped, call it again: trainings go on where they were."
	$(BIN)/python -m experiments.question_a $(ON_RECORD)
	$(BIN)/python -m experiments.question_a $(ON_RECORD) --latent-dim 20
	$(BIN)/python -m experiments.question_b $(ON_RECORD)
	$(BIN)/python -m experiments.question_b $(ON_RECORD) --latent-dim 20
	$(BIN)/python -m experiments.question_c $(ON_RECORD)
	$(BIN)/python -m experiments.question_d $(ON_RECORD)
	$(BIN)/python -m experiments.completions $(ON_RECORD)
	$(BIN)/python -m experiments.compare_guides $(ON_RECORD) --frozen-decoder --latent-dim 20
	$(BIN)/python -m experiments.compare_guides $(ON_RECORD) --frozen-decoder --latent-dim 4
	$(BIN)/python -m experiments.compare_guides $(ON_RECORD) --frozen-decoder --latent-dim 2
	$(BIN)/python -m experiments.equal_quality $(ON_RECORD) --device $(DEVICE)
	$(BIN)/python -m experiments.benchmark --results results
	$(BIN)/python -m experiments.time_to_quality $(ON_RECORD) --latent-dim 20
	$(BIN)/python -m experiments.time_to_quality $(ON_RECORD)
	$(BIN)/python -m experiments.many_machines --results results
	$(BIN)/python -m experiments.report

test: install lint
	$(PYTEST) --dist worksteal

# the tests of a script share its one run, so a file stays with one process
test-scripts: install
	$(PYTEST) --dist loadfile --timeout 900 -m "scripts and not slow"

test-all: install lint
	$(PYTEST) --dist loadfile --timeout 900 -m ""

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# faults planted one at a time: which do the tests miss? hours; some modules: MODULES=path/of/one.py
mutants: install
	$(BIN)/python -m pip install --quiet --editable '.[mutants]'
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m tests.mutants $(MODULES)

# the API's pages, from the docstrings, in docs/api/
docs: install
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m pdoc --docformat google --math --output-directory docs/api pyro_vae

install: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
ifneq ($(CPU),)
	@$(BIN)/python -c "from urllib import request; request.urlopen('$(CPU_INDEX)/torch/', timeout=30)" \
	2> /dev/null || { echo "$(CPU_INDEX) cannot be reached: do without CPU=1"; exit 1; }
	$(BIN)/python -m pip install --index-url $(CPU_INDEX) torch torchvision
endif
	$(BIN)/python -m pip install --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build docs/api *.egg-info .pytest_cache .ruff_cache
