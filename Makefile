# Two targets matter: `make demo` runs the whole path, `make test` runs every check.
PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
CASES ?= 5000
SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types imports unit fuzz reference benchmark clean

help: ## Say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## Set up, then DICOM to report on synthetic exams, under 10 minutes
	$(BIN)/mammoscope demo --out $(OUT) --overwrite

test: $(VENV)/.dev ## Set up, then every check
	scripts/install-system-packages.sh
	$(MAKE) check

check: lint types imports unit ## Format, lint, types, import contracts, tests

format: $(VENV)/.dev ## Rewrite files in the house's format
	$(BIN)/ruff format src tests benchmarks scripts
	$(BIN)/ruff check --fix src tests benchmarks scripts

lint:
	$(BIN)/ruff format --check src tests benchmarks scripts
	$(BIN)/ruff check src tests benchmarks scripts

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports

# A process for each core, up to eight, with a thread each: two threads on the small networks of
# tests wait for each other more than they work.
unit:
	OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 8 --dist loadfile --cov --cov-report=term-missing:skip-covered

fuzz: $(VENV)/.dev ## Thousands of bad files in a watched process; CASES=20000 SEED=7
	PYTHONPATH=tests $(BIN)/python -m fuzz.harness --cases $(CASES) --seed $(SEED) --out fuzz-out

reference: $(VENV)/.dev ## Write the reference pages that follow from code
	$(BIN)/python scripts/write_reference.py

benchmark: $(VENV)/.dev ## Measure against what one would run instead
	$(BIN)/python benchmarks/prepare.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/evaluate.py

clean: ## Remove the environment and all outputs
	rm -rf $(VENV) $(OUT) fuzz-out .mypy_cache .ruff_cache .pytest_cache .coverage*

# --- environments -------------------------------------------------------------------

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: $(PYTHON) is not installed; apt-get install python3.11 python3.11-venv," \
	       "or say which to use: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@# Debian parts venv from Python; where it is missing it is fetched, or asked for.
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  scripts/install-system-packages.sh $(notdir $(PYTHON))-venv
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[train,serve]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[train,serve,dev]'
	@touch $@ $(VENV)/.demo
