# Every target sets up what it needs. `make VENV=/some/folder check` keeps the environment elsewhere,
# `make PYTHON=python3.12 check` builds it with another interpreter.
PYTHON ?= python3
VENV ?= .venv
PAIRS ?= 5
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Threads that spin for long while they wait starve the others on a busy machine.
export OMP_WAIT_POLICY := passive
export GOMP_SPINCOUNT := 1000

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install quickstart gallery bench test check clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(INSTALLED) ## make the environment in .venv

quickstart: $(INSTALLED) ## fetch the default weights and run the smallest experiment
	$(BIN)/mmmed weights pull default
	$(BIN)/mmmed experiment run experiments/quickstart --output outputs/quickstart

gallery: $(INSTALLED) ## train every tiny recipe and write sizes, memory and times into configs/README.md
	$(BIN)/python benchmarks/gallery.py

bench: $(INSTALLED) ## measure every claim about speed into benchmarks/results and docs/performance.svg (an hour; PAIRS=1 is quick)
	$(BIN)/python benchmarks/bench.py --pairs $(PAIRS)

test: $(INSTALLED) ## run the tests that are not slow
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

check: $(INSTALLED) ## all that CI runs: style, types, floors, every test, coverage
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --durations=10

clean: ## remove the environment, caches and build leftovers; outputs/ stays
	rm -rf $(if $(filter .venv,$(VENV)),.venv) build dist *.egg-info .coverage .coverage.*
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find mmmed tests -type d -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "make: error: '$(PYTHON)' is not Python 3.11 or newer; install one and say 'make PYTHON=python3.12 ...'" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "make: error: '$(PYTHON)' cannot make environments; on Debian or Ubuntu: 'apt install python3-venv'" >&2; exit 2; }
	@test -x $(BIN)/python || { echo "Making the environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing mmmed and what it needs into $(VENV) (several gigabytes, some minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@
