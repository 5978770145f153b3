# What a clone needs, from bare Debian with make, git and python3-venv: `make demo`, `make test`.
# Every step leaves a stamp in .venv, so a second run does at once what it is asked for.

PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
TESTS ?= tests
RUNS ?= 10000
FUZZ_SECONDS ?= 60

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
PIP_VERSION := 26.3

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs reference bench performance soak fuzz setup system constraints clean

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.demo ## Build, push, remove, pull, inspect and ask the example model
	@$(BIN)/python scripts/demo.py

test: system setup ## Run every test, after installing what they need
	$(BIN)/python -m pytest -n $(JOBS) $(TESTS)

lint: setup ## Run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: setup ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

reference: setup ## Write the pages and schemas that follow from the code
	$(BIN)/python scripts/cli_reference.py
	$(BIN)/python scripts/json_reference.py
	$(BIN)/python scripts/recipe_reference.py

bench: system setup ## Measure, side by side with the peers; BENCH_RUNS=n for more rounds than 5
	@failed=0; for script in benchmarks/*.py; do $(BIN)/python $$script || failed=1; done; exit $$failed

performance: setup ## Write docs/performance.md from what the last make bench measured
	$(BIN)/python scripts/performance_page.py

soak: system setup ## Break 10,000 commands by faults of the network and by kills; RUNS=n for another number
	@$(BIN)/python scripts/soak.py --runs $(RUNS)

fuzz: .venv/.fuzz ## Look for recipes that break their readers; FUZZ_SECONDS=n for longer than 60
	@$(BIN)/python scripts/fuzz.py --seconds $(FUZZ_SECONDS)

setup: .venv/.setup ## Make the virtual environment with all tools

system: ## Install the programs that the tests talk to (as root, on Debian)
	@scripts/system.sh

constraints: ## Pin the newest packages that fit pyproject.toml
	PIP="$(PIP_VERSION)" PYTHON="$(PYTHON)" scripts/constraints.sh

clean: ## Remove what the other targets made
	rm -rf .venv .tools site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/.pip: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "lading needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setting up .venv with $$($(BIN)/python --version)"
	@$(PIP) install pip==$(PIP_VERSION)
	@touch $@

.venv/.demo: .venv/.pip pyproject.toml constraints.txt
	@echo "installing lading with its embedded runtime and what quantizes"
	@$(PIP) install --constraint constraints.txt --editable '.[llama,quantize]'
	@touch $@

.venv/.setup: .venv/.demo
	@echo "installing the tools for tests, lint and docs"
	@$(PIP) install --constraint constraints.txt --editable '.[llama,quantize]' --group lint --group test --group docs
	@touch $@

.venv/.fuzz: .venv/.setup
	@echo "installing the fuzzer (35 MB)"
	@$(PIP) install --only-binary :all: --group fuzz
	@touch $@
