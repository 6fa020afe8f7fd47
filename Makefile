# make run           install into .venv, train the d = 4 autoencoder, draw question (a) in runs/
# make test          install into .venv, lint, test: 5 to 8 minutes (MNIST tests run where MNIST is)
# make test-scripts  run every script in small, and score all test images: 10 to 15 minutes
# make test-all      both, and the slow tests: every experiment twice, and more: an hour and more
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# a process for each of two cores, each with one thread: half of the time of one process with two
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

.PHONY: run test test-scripts test-all lint format install clean

run: install
	$(BIN)/python -m experiments.question_a --dataset auto --results runs --resume

test: install lint
	$(PYTEST) --dist worksteal

# the tests of a script share its one run, so a file stays with one process
test-scripts: install
	$(PYTEST) --dist loadfile --timeout 900 -m scripts

test-all: install lint
	$(PYTEST) --dist loadfile --timeout 900 -m ""

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
