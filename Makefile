# The commands of this project. `make help` lists them; each creates the virtual environment first where it is missing.

PYTHON ?= python3
VENV ?= .venv
# The annotation server has an environment of its own, and a port
LABEL_VENV ?= .venv-label
PORT ?= 8000
# Processes that run tests side by side, each with one computing thread
JOBS ?= 2

PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

# On a build server the integration tests that need a GPU or other people's pictures are left out by name;
# every other test that skips there is a failure (tests/integration/conftest.py).
INTEGRATION_TESTS := $(if $(CI),not gpu and not real_data,)

.DEFAULT_GOAL := help
.PHONY: help install demo label bundle zoo-check test lint types unit integration format bench bench-quick clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

install: $(INSTALLED)  ## create .venv and install the pinned packages and this one

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 13) else \
	    f"make: $(PYTHON) is Python {v.major}.{v.minor}, this project needs 3.10, 3.11 or 3.12: make PYTHON=python3.11 ...")'
	@test -x $(PY) || { echo "Creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing requirements.txt into $(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# ---- from nothing to masks -------------------------------------------------------------------------------------------

demo: $(INSTALLED)  ## make pictures, train a short run, segment PNG, NIfTI and DICOM
	@echo "== 1/2  A short training run on synthetic pictures, made in demo/"
	$(PY) -m monai.bundle run training --config_file bundle/configs/train.json --max_epochs 2 --output_dir runs/demo
	@echo "== 2/2  Pictures, a NIfTI volume and a DICOM series, with the weights that ship"
	$(PY) -m monai.bundle run --config_file bundle/configs/inference.json \
	    --dataset_dir demo/inference --output_dir demo/results --overlay true
	@echo "Trained weights and their curves: runs/demo. Masks, overlays and manifest.json:"
	@find demo/results -type f | sort | sed 's/^/  /'

label: $(INSTALLED)  ## an annotation server (MONAI Label) on 127.0.0.1: make label STUDIES=folder
	$(PY) tools/label_environment.py $(LABEL_VENV)
	$(VENV)/bin/banet label $(if $(STUDIES),"$(STUDIES)") --port $(PORT) --environment $(LABEL_VENV)

# ---- the model zoo ---------------------------------------------------------------------------------------------------

bundle: $(INSTALLED)  ## the archive for the model zoo, in dist/
	$(PY) tools/build_bundle.py

zoo-check: bundle  ## every check of the model zoo, on that archive
	$(PY) tools/zoo_check.py dist/banet_skin_lesion_segmentation

# ---- checks ----------------------------------------------------------------------------------------------------------

test: lint types unit  ## lint, types, unit, property and configuration tests (under five minutes)

lint: $(INSTALLED)  ## ruff: rules and layout
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(INSTALLED)  ## mypy, strict
	$(PY) -m mypy

unit: $(INSTALLED)
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(JOBS) tests/unit tests/properties tests/bundle

integration: $(INSTALLED)  ## training in subprocesses, servers, second environments
	OMP_NUM_THREADS=2 $(PY) -m pytest -q -m "$(INTEGRATION_TESTS)" tests/integration

format: $(INSTALLED)  ## let ruff mend what it can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(INSTALLED)  ## all speed benchmarks of the CPU, about half an hour; fills docs/performance.md
	$(PY) -m benchmarks.everything

bench-quick: $(INSTALLED)  ## the quick form of every speed benchmark, under five minutes
	$(PY) -m benchmarks.everything --quick

clean:  ## remove what these commands made, the environment included
	rm -rf $(VENV) $(LABEL_VENV) .venv-label-tests demo runs eval build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
