# Everything a checkout can do. A machine with make and CPython 3.11 or newer is enough; `.venv` is made on first use.

# The first interpreter that is new enough and can make environments: version-manager shims may exist and not run, and Debian's
# python3 comes without ensurepip until python3-venv is installed, so each is tried instead of trusted. Or: make PYTHON=...
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11 python; do \
	"$$candidate" -c '$(USABLE)' >/dev/null 2>&1 && echo "$$candidate" && break; done)
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PACKAGES := medanomaly baselines $(wildcard deblur)
DEMO_OUT ?= demo-output

# Figures are files here, never windows.
export MPLBACKEND := Agg

# visdom 0.2.4 (Python 3.11) is built from source with setuptools' old pkg_resources. Older pips pass PIP_CONSTRAINT on to that
# build, newer ones only PIP_BUILD_CONSTRAINT: with both, any pip works. PEP 517 keeps pip 23.0 from its legacy setup.py way.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USE_PEP517=1 PIP_CONSTRAINT=build-constraints.txt \
	PIP_BUILD_CONSTRAINT=build-constraints.txt $(BIN)/python -m pip

.DEFAULT_GOAL := help
.PHONY: help env demo test lint types unit slow clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(INSTALLED) ## create .venv and install everything (the other targets do it when needed)

demo: $(INSTALLED) ## train on phantoms, localize in them and in the chest X-rays of data/cxr, report in demo-output/
	$(BIN)/medanomaly demo --out $(DEMO_OUT)

test: lint types unit ## the gate: lint, types and unit; fails if any of them fails

lint: $(INSTALLED) ## formatting and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED) ## static types
	$(BIN)/mypy --strict $(PACKAGES)

unit: $(INSTALLED) ## tests that need neither minutes nor a GPU
	$(BIN)/python -m pytest -m "not slow and not gpu"

slow: $(INSTALLED) ## tests that take minutes, and on a CUDA machine those that need it
	$(BIN)/python -m pytest -m "slow or gpu"

clean: ## remove .venv, caches and demo-output; runs/ stays
	rm -rf $(VENV) demo-output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Touched last, so an install that was interrupted is done again.
$(INSTALLED): pyproject.toml requirements-cpu.txt build-constraints.txt
	@if ! $(BIN)/python -c '$(USABLE)' >/dev/null 2>&1; then \
		"$(PYTHON)" -c '$(USABLE)' >/dev/null 2>&1 || { echo "no usable Python ($(or $(PYTHON),none found)): install CPython 3.11 or newer" \
			"with venv (Debian: python3-venv), or name one with make PYTHON=..." >&2; exit 1; }; \
		echo "creating $(VENV) with $$("$(PYTHON)" --version)"; \
		"$(PYTHON)" -m venv --clear $(VENV); \
	fi
	@echo "installing medanomaly and its dependencies into $(VENV) (1 to 3 minutes)"
	@$(PIP) install --quiet --editable '.[test]' --requirement requirements-cpu.txt || { \
		echo "installing failed; the lines above are pip's: check the network or proxy, then run the same command again" >&2; exit 1; }
	@touch $@
