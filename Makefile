# Two commands do all the set-up: `make demo` and `make test`. Both are safe to repeat.
PYTHON ?= python3
BIN := .venv/bin

# uv installs in a fifth of pip's time, but does not read pip's configuration: with an index of pip's own, or where uv fails, pip installs.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
define install
	@echo "Installing into .venv: $(WHAT)"
	@{ ! $(PIP) config get global.index-url >/dev/null 2>&1 && test -z "$$PIP_INDEX_URL" && $(PIP) install uv \
	  && $(BIN)/python -m uv pip install --quiet --python $(BIN)/python $(WHAT); } || $(PIP) install $(WHAT)
endef

.PHONY: demo test test-all test-faults check docs audit sbom image-digests lowest lock results bench gpu gpu-check gpu-pack clean

demo: .venv/.installed  ## Train a small ablation on embedded data, print its table, say where to look
	$(BIN)/cifar-lab run-ablation se_ratio --scale smoke --seeds 0-1 -y
	@echo
	@echo "The same table again:      $(BIN)/cifar-lab compare se_ratio"
	@echo "The runs, in a browser:    $(BIN)/cifar-lab ui"

test: .venv/.installed-dev  ## The quick tier: minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 25 -m "not slow and not browser and not gpu"

test-all: .venv/.installed-all  ## Everything that this machine can run
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest

FAULTS ?= full
test-faults: .venv/.installed-dev  ## Cause faults for real, count what is lost: docs/reliability.md; one: ARGS="-k kill_worker"
	CIFAR_LAB_FAULTS=$(FAULTS) CIFAR_LAB_FAULTS_RECORD=docs/reliability.jsonl $(BIN)/python -m pytest -n 2 --dist loadfile -m faults tests/faults/table $(ARGS); \
	  status=$$?; PYTHONPATH=tests:. $(BIN)/python -m faults.report; exit $$status

check: .venv/.installed-dev  ## Lint, format, types, the direction of imports, licences, and docker/
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 tests/contracts/test_imports.py tests/contracts/test_supply_chain.py
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/shellcheck docker/*.sh
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml docker/compose.gpu.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

docs: .venv/.installed-dev  ## Build the site in docs/_build, with executed notebooks
	CIFAR_LAB_DOCS_EXECUTE=cache $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build
	@echo "docs/_build/index.html"

audit: .venv/.installed-audit  ## Ask for known vulnerabilities of what is installed; what cannot be asked about fails too
	$(BIN)/pip-audit --strict --skip-editable --local

SBOM_OF ?= $(BIN)/python
sbom: .venv/.installed-dev  ## Write sbom.json, CycloneDX's bill of materials of what is installed; SBOM_OF=PYTHON names another environment
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate -o sbom.json $(SBOM_OF)
	@echo sbom.json

image-digests:  ## Ask registries for the digests of the images that docker/ builds on, and write them there (needs docker)
	$(PYTHON) docker/image_digests.py

lowest: .venv/.installed-audit  ## The quick tests with the lowest versions that pyproject.toml admits, in .venv-lowest (8 GB)
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --extra dev pyproject.toml -o .venv/lowest.txt
	$(PYTHON) -m venv .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python -r .venv/lowest.txt
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --no-deps -e .
	.venv-lowest/bin/python -m pytest -n 2 -m "not slow and not browser and not gpu"

lock: .venv/.installed-audit  ## Write requirements.lock: the newest versions of everything, for all platforms
	$(BIN)/uv pip compile --quiet --universal --no-annotate --no-emit-find-links --python-version 3.11 --upgrade \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock

STUDY ?= docs/results/registry.zip
results: .venv/.installed  ## Write the pages of docs/results/registry from a study's records: STUDY=FOLDER|ZIP
	PYTHONPATH=benchmarks:. $(BIN)/python benchmarks/study_pages.py $(STUDY) -o docs/results/registry

bench: .venv/.installed-bench  ## Measure beside a plain loop and Lightning: docs/benchmarks.md; make bench ARGS=--quick
	$(BIN)/python benchmarks/bench.py $(ARGS)

gpu:  ## Check, measure and train on a GPU with $(PYTHON)'s own torch, no .venv: ARGS="--out OUT --data ZIP[.xz] --seconds 520"
	PYTHONPATH=. $(PYTHON) benchmarks/gpu.py $(ARGS)

gpu-check:  ## The tests that need a GPU, with $(PYTHON)'s own torch and pytest, no .venv
	PYTHONPATH=. $(PYTHON) -m pytest -m gpu tests/gpu

# For a machine with Python 3.12, torch and no network. pydantic and pydantic-core must be a pair.
WHEELS := pydantic==2.14.4 pydantic-core==2.50.5 annotated-types typing-inspection platformdirs typing-extensions typer
IMAGES ?= cifar10-jpeg.zip
gpu-pack:  ## What a machine with a GPU and no network needs beside the checkout: .whl/ and .gpu-data/ (IMAGES=ZIP)
	mkdir -p .whl .gpu-data
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
	  --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
	  -d .whl $(WHEELS)
	xz -9e --stdout $(IMAGES) > .gpu-data/$(notdir $(IMAGES)).xz

clean:  ## Remove the environment and what tools cached; runs and stores stay
	rm -rf .venv .venv-lowest build dist .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cifar-lab needs Python 3.11 or newer; try: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: WHAT = -e .
.venv/.installed: pyproject.toml | .venv/bin/python
	$(install)
	@touch $@

.venv/.installed-dev: WHAT = -e '.[dev]'
.venv/.installed-dev: pyproject.toml | .venv/bin/python
	$(install)
	@touch .venv/.installed $@

# The MLflow server of docker/ needs boto3, of the botocore that s3fs has; pip would try one after the other for minutes.
.venv/.installed-all: WHAT = boto3==$$($(BIN)/python -c 'import botocore; print(botocore.__version__)')
.venv/.installed-all: .venv/.installed-dev
	$(install)
	@touch $@

.venv/.installed-bench: WHAT = -e '.[dev,bench]'
.venv/.installed-bench: pyproject.toml | .venv/bin/python
	$(install)
	@touch .venv/.installed .venv/.installed-dev $@

.venv/.installed-audit: WHAT = -e '.[dev,audit]'
.venv/.installed-audit: pyproject.toml | .venv/bin/python
	$(install)
	@touch .venv/.installed .venv/.installed-dev $@
