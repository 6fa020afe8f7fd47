# make run     install into .venv, train the d = 4 autoencoder, draw question (a) in runs/
# make test    install into .venv, lint, run every test (MNIST tests run where MNIST is)
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: run test lint format install clean

run: install
	$(BIN)/python -m experiments.question_a --dataset auto --results runs --resume

# a process for each of two cores, each with one thread: half of the time of one process with two
test: install lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

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
