# Needs only Python 3 (with venv) and make. Every target sets up what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SHELL := /bin/sh

RELEASES ?= 20.1.0 23.0.0

.PHONY: help demo test gunicorn torture check format bench clean

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

gunicorn: $(RELEASES:%=$(VENV)/gunicorn-%/installed) ## the tests of its hooks with older releases: RELEASES="20.1.0 23.0.0"
	for release in $(RELEASES); do $(VENV)/gunicorn-$$release/bin/python -m pytest -n auto tests/workers/gunicorn $(ARGS) || exit; done

# gunicorn before 21 needs pkg_resources, of which setuptools warns from 67.5 on; and the workers of uvicorn that older
# ones can have need an older uvicorn.
$(VENV)/gunicorn-%/installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' 'gunicorn==$*' 'setuptools<67' 'uvicorn<0.36'
	touch $@

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

bench: $(VENV)/installed ## what shmetrics costs and gives beside its peers: ARGS="write-cost --html report.html"
	-$(BIN)/shmetrics bench --install
	$(BIN)/shmetrics bench $(ARGS)

clean: ## remove what the other targets made
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
