# `make chat` and `make test` do all the set-up; a stamp file for each step makes the second start quick.
# Written for Debian, Ubuntu and macOS with GNU make 3.81 or later; not tried on macOS.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
PROJECTS := pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
CONTAINER := $(shell find container -type f -not -path '*/__pycache__/*' -not -path '*/tests/*')
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
TESTS ?=

.PHONY: help chat test unit lint types docs bench crash soak prompt size runtime image clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

chat: runtime $(STAMPS)/image ## Set everything up and talk to your assistant
	@$(BIN)/nanoclaw chat

test: runtime $(STAMPS)/image lint types ## Set everything up and run every test
	$(BIN)/pytest -n 2 --dist loadfile $(TESTS)

unit: $(STAMPS)/developing ## Run the tests that need no container
	$(BIN)/pytest -q -m "not container" $(TESTS)

lint: $(STAMPS)/developing ## Check style
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .

types: $(STAMPS)/developing ## Check types
	@$(BIN)/mypy
	@$(BIN)/mypy container/runner/tests # apart: two folders called tests in one run confuse it
	@for plugin in $(PLUGINS); do $(BIN)/mypy $$plugin || exit 1; done

docs: $(STAMPS)/developing ## Build the documentation into site/ (DOCS=serve to read it while you write)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(if $(DOCS),$(DOCS),build --strict)

bench: runtime $(STAMPS)/image $(STAMPS)/developing ## Measure, and write docs/performance.md (about 15 minutes; BENCH=--quick for a look)
	$(BIN)/python -m bench $(if $(BENCH),$(BENCH),--page docs/performance.md --json bench.json)

crash: runtime $(STAMPS)/image $(STAMPS)/developing ## Kill everything at 200 random points, and write docs/reliability.md (about 15 minutes; CRASH="--points 20" for a look)
	$(BIN)/python -m tests.crash $(if $(CRASH),$(CRASH),--page docs/reliability.md)

soak: $(STAMPS)/developing ## Look for what grows in thousands of turns (about 5 minutes; SOAK="--turns 1000" for a look)
	$(BIN)/python -m tests.crash.soak $(SOAK)

prompt: runtime $(STAMPS)/image $(STAMPS)/developing ## Show what every call of the model begins with, section by section
	@$(BIN)/python scripts/prompt.py

size: $(STAMPS)/developing ## Count lines, files and dependencies
	@$(BIN)/python scripts/size.py

runtime:
	@sh container/ensure-runtime >&2

image: runtime $(STAMPS)/image ## Build the worker image

clean: ## Remove what make has made in this folder
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "NanoClaw needs Python 3.11 or later. Set PYTHON=/path/to/python3.11 for make."; exit 3; }
	@echo "Making $(VENV) …" >&2
	@$(PYTHON) -m venv $(VENV) || { echo "On Debian and Ubuntu: apt-get install python3-venv"; rm -rf $(VENV); exit 3; }
	@mkdir -p $(STAMPS)

# What is built here is only built ahead of time: a worker whose image is missing builds it itself.
$(STAMPS)/image: $(STAMPS)/installed $(CONTAINER)
	@sh container/ensure-runtime >&2
	@$(BIN)/nanoclaw image build >&2
	@touch $@

$(STAMPS)/installed: $(PROJECTS) | $(BIN)/python
	@echo "Installing NanoClaw …" >&2
	@$(PIP) install --constraint constraints.txt --upgrade pip
	@$(PIP) install --constraint constraints.txt --editable . $(PLUGINS:%=--editable ./%)
	@touch $@

$(STAMPS)/developing: $(STAMPS)/installed
	@echo "Installing what the tests need …" >&2
	@$(PIP) install --constraint constraints.txt --group dev
	@touch $@
