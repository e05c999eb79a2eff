# Two commands do all the set-up: `make demo` and `make test`. Both are safe to repeat.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all check bench clean

demo: .venv/.installed  ## Train a small ablation on embedded data, print its table, say where to look
	$(BIN)/cifar-lab run-ablation se_ratio --scale smoke --seeds 0-1 -y
	@echo
	@echo "The same table again:      $(BIN)/cifar-lab compare se_ratio"
	@echo "The runs, in a browser:    $(BIN)/cifar-lab ui"

test: .venv/.installed-dev  ## The quick tier: minutes on two cores
	$(BIN)/python -m pytest -n 2 -m "not slow and not browser and not gpu"

test-all: .venv/.installed-dev  ## Everything that this machine can run
	$(BIN)/python -m pytest

check: .venv/.installed-dev  ## Lint, format, types, the direction of imports, and docker/
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/contracts/test_imports.py
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/shellcheck docker/entrypoint.sh
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml docker/compose.gpu.yaml

bench: .venv/.installed-bench  ## Measure beside a plain loop and Lightning: docs/benchmarks.md; make bench ARGS=--quick
	$(BIN)/python benchmarks/bench.py $(ARGS)

clean:  ## Remove the environment and what tools cached; runs and stores stay
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cifar-lab needs Python 3.11 or newer; try: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/.installed-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch .venv/.installed $@

.venv/.installed-bench: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	@touch .venv/.installed .venv/.installed-dev $@
