# Needs only Python 3 (with venv) and make. Every target sets up what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SHELL := /bin/sh

.PHONY: help demo test torture check format bench clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/installed ## gunicorn, four workers, a real load, one SIGKILL, equal counts
	$(BIN)/shmetrics demo $(if $(SECONDS),--seconds $(SECONDS))

test: $(VENV)/installed ## the test suite, on all cores
	$(BIN)/python -m pytest -n auto $(ARGS)

torture: $(VENV)/installed ## two minutes of SIGKILLs at every step, and every mutant
	$(BIN)/python -m tests.torture --seconds $(or $(SECONDS),120)
	$(BIN)/python -m tests.torture --mutants

check: $(VENV)/installed ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed ## put the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed ## ratios to the incumbent, and the read side
	$(BIN)/python -m benchmarks.write_path
	$(BIN)/python -m benchmarks.custom_metrics
	$(BIN)/python -m benchmarks.read_side
	$(BIN)/python -m benchmarks.scrape

clean: ## remove what the other targets made
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
