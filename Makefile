# The commands of the project; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COMPILER := $(VENV)/.compiler
KERNEL := $(VENV)/.kernel
NATIVE := src/trailhawk/native
ROOM ?=
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long lint check bench docs lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) $(KERNEL) ## make .venv with everything the lock file names (the others do it by themselves)

# One stamp: made again only when the pinned packages or the project's own settings change.
$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; try: make PYTHON=python3.11 ...")'
	@echo "setting up $(VENV) (once) ..."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# A machine without a compiler gets one into .venv.
$(COMPILER): $(READY) requirements-compiler.lock
	@for name in $(firstword $(CC)) gcc clang; do command -v $$name; done | grep -q . \
		|| $(BIN)/python -m pip install -qqq --disable-pip-version-check --require-hashes -r requirements-compiler.lock || true
	@touch $@

# Compiled anew by itself when a source changes. Where that fails, the one line of build.py says what is missing,
# all works without the kernel, and the next call tries again: a compiler may have been installed.
$(KERNEL): $(COMPILER) $(wildcard $(NATIVE)/*.[ch]) $(NATIVE)/build.py
	@if $(BIN)/python -I $(NATIVE)/build.py; then touch $@; fi

demo: $(READY) $(KERNEL) ## simulate an attack in 35 days of logs, take them in, detect it, show the incident
	@$(BIN)/trailhawk --home .trailhawk demo

TESTS = $(if $(ROOM),tests/$(ROOM),-n auto --dist worksteal) $(PYTEST_ARGS)

test: $(READY) $(KERNEL) ## all tests but the long ones, or those of one room: make test ROOM=kql
	@$(BIN)/python -m pytest -m "not long" $(TESTS)

# A room may have none of these: pytest ends with 5 then.
test-long: $(READY) $(KERNEL) ## the long ones, and many more damaged inputs; of one room too
	@TRAILHAWK_FUZZ=$${TRAILHAWK_FUZZ:-5000} $(BIN)/python -m pytest -m "long or fuzz" $(TESTS) $(if $(ROOM),|| test $$? = 5)

lint: $(READY) ## style, types and who may import whom
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

check: lint test ## what must pass before a change is handed over: lint and test; CI runs test-long too

# What the benchmarks compare with comes on top of the environment.
$(VENV)/.bench: $(READY) requirements-bench.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

bench: $(VENV)/.bench $(KERNEL) ## figures: start-up, intake, queries, detection
	@$(BIN)/python bench/ingest.py
	@$(BIN)/python bench/road.py
	@$(BIN)/python bench/kql --rows 1000000

docs: $(READY) ## write the reference pages anew from the code
	@$(BIN)/python docs/build.py

lock: ## choose versions anew and write the lock files
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install -qq --disable-pip-version-check uv
	@$(VENV)-lock/bin/uv pip compile -q --upgrade $(PINNED) --group compiler -o requirements-compiler.lock
	@$(VENV)-lock/bin/uv pip compile -q --upgrade $(LOCK) -o requirements.lock pyproject.toml
	@$(VENV)-lock/bin/uv pip compile -q --upgrade $(LOCK) -c requirements.lock --group dev -o requirements-dev.lock pyproject.toml
	@$(VENV)-lock/bin/uv pip compile -q --upgrade $(LOCK) -c requirements-dev.lock --group bench -o requirements-bench.lock pyproject.toml
	@rm -rf $(VENV)-lock

# Neither addresses nor paths get into the files, so that any mirror of the registry will do.
PINNED := --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links
LOCK := $(PINNED) --extra agents --extra geo --extra postgresql --extra sigma

clean: ## remove .venv and all caches
	@rm -rf $(VENV) $(VENV)-lock $(NATIVE)/_kernel.so .trailhawk build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
