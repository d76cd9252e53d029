# make demo    the whole way on a made-up skull: figures, a picture, the files (in demo-out/)
# make test    everything that must hold: style, types, layers, tests, and the built package in an empty environment
# make tools   programs that tests use, where they are not there, from Debian (root): dciodvfy and Orthanc for DICOM, and
#              Chromium for the page
# make docs    the documentation site, in build/site: open build/site/index.html (search wants a server)
# make test-lowest   the tests on the oldest versions that pyproject.toml allows
# make coverage, make format, make wheel, make clean
#
# Needs Python 3.11 or newer and make; the rest comes from the package index into .venv. Another Python:
#   make test PYTHON=/path/to/python3.12

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WHEEL_DIR := build/wheel
WHEEL_ENV := build/wheel-env
LOWEST_ENV := build/lowest-env
DEMO_OUT := demo-out
TEST_JOBS ?= 2

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Test processes run side by side: one numerical thread each.
test coverage pytest test-lowest: export OMP_NUM_THREADS := 1
test coverage pytest test-lowest: export OPENBLAS_NUM_THREADS := 1
# Modules are compiled once and not by every process that tests start, also where the environment says otherwise.
test coverage pytest test-lowest: export PYTHONDONTWRITEBYTECODE :=
test coverage pytest test-lowest: export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

.PHONY: help demo tools browser test lint docs pytest coverage wheel wheel-test test-lowest format clean
help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

# A virtual environment, from a Python that is new enough.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "calvaria needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." \
	       "Name another one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The package alone, editable; the pins make every machine the same.
$(VENV)/.core: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --no-compile -c constraints.txt hatchling editables
	$(BIN)/python -m pip install -q --no-compile -c constraints.txt --no-build-isolation -e .
	@touch $@

# The package with what its tests need.
$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install -q --no-compile -c constraints.txt --no-build-isolation -e '.[dev,docs,figures]'
	@touch $@

demo: $(VENV)/.core
	$(BIN)/calvaria demo -o $(DEMO_OUT)

# Without a network, apt gives up soon. All programs are used on loopback alone.
TOOLS := dicom3tools orthanc
APT := DEBIAN_FRONTEND=noninteractive timeout 60 apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=15
tools: browser
	@if command -v dciodvfy > /dev/null && PATH="$$PATH:/usr/sbin" command -v Orthanc > /dev/null; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null \
	  && { $(APT) install -y --no-install-recommends $(TOOLS) > /dev/null 2>&1 || { $(APT) update > /dev/null 2>&1 \
	  && $(APT) install -y --no-install-recommends $(TOOLS) > /dev/null 2>&1; }; }; then exit 0; \
	else echo "tests of DICOM objects and archives want more: apt-get install $(TOOLS) (Debian, Ubuntu; as root)" >&2; exit 1; fi

# The largest of them has a time of its own: 100 MB to fetch.
browser:
	@if command -v chromium > /dev/null; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null \
	  && $(APT) update > /dev/null 2>&1 \
	  && $(APT:60=70) install -y --no-install-recommends chromium > /dev/null 2>&1; then exit 0; \
	else echo "the test of the page wants a browser: apt-get install chromium (Debian, Ubuntu; as root)" >&2; fi

# Style and the package keep one core each; the tests keep all of them.
test: $(VENV)/.dev
	@$(MAKE) --no-print-directory -j 2 lint wheel-test
	@$(MAKE) --no-print-directory pytest
	@echo "all tests passed"

lint: $(VENV)/.dev docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Strict: a lost link or anchor, or a docstring that names what is not there, is an error. 5 s. (Not --quiet: it counts no warnings then.)
docs: $(VENV)/.dev
	$(BIN)/python -m mkdocs build --strict

# Doctests are collected from src (see pyproject.toml). Order is random; the seed stands in the first lines.
# Each process takes half of the files, and later some of what the other has left: what a file prepares is made once.
pytest: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist worksteal $(PYTEST_ARGS)

coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist worksteal --cov --cov-report=term $(PYTEST_ARGS)

# The package as it is installed; Containerfile takes it from there.
wheel: $(VENV)/.dev
	rm -rf $(WHEEL_DIR)
	$(BIN)/python -m build --wheel --no-isolation --outdir $(WHEEL_DIR) .

# What a user gets: the wheel, alone in an empty environment, away from the sources.
wheel-test: wheel
	rm -rf $(WHEEL_ENV)
	$(PYTHON) -m venv $(WHEEL_ENV)
	$(WHEEL_ENV)/bin/python -m pip install -q --no-compile -c constraints.txt $(WHEEL_DIR)/*.whl
	cd $(WHEEL_ENV) && bin/calvaria --help > /dev/null && bin/calvaria --version && bin/calvaria demo -o demo-out

# The oldest versions that are promised to work. Their own warnings are theirs: not errors here.
test-lowest: $(VENV)/.dev
	rm -rf $(LOWEST_ENV)
	$(PYTHON) -m venv $(LOWEST_ENV)
	grep -hE '^(absl-py|iniconfig|pluggy|pygments|pynrrd|pytest|pytest-randomly|pytest-timeout|hypothesis|sortedcontainers|simpleitk|surface-distance)==' \
	  constraints.txt > $(LOWEST_ENV)/tests.txt
	$(LOWEST_ENV)/bin/python -m pip install -q --no-compile -c constraints-lowest.txt '.[figures]' -r $(LOWEST_ENV)/tests.txt
	$(LOWEST_ENV)/bin/python -m pytest -W default -rs --ignore tests/test_house.py --ignore tests/test_docs.py $(or $(PYTEST_ARGS),tests)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist $(DEMO_OUT) .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .coverage*
