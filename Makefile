# Everything a checkout can do. A machine with make and CPython 3.11 or newer is enough; `.venv` is made on first use.

# The first interpreter that is new enough and can make environments: version-manager shims may exist and not run, and Debian's
# python3 comes without ensurepip until python3-venv is installed, so each is tried instead of trusted. Or: make PYTHON=...
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11 python; do \
	"$$candidate" -c '$(USABLE)' >/dev/null 2>&1 && echo "$$candidate" && break; done)
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PACKAGES := medanomaly baselines deblur
DEMO_OUT ?= demo-output

# Figures are files here, never windows.
export MPLBACKEND := Agg

# visdom 0.2.4 (Python 3.11) is built from source with setuptools' old pkg_resources. Older pips pass PIP_CONSTRAINT on to that
# build, newer ones only PIP_BUILD_CONSTRAINT: with both, any pip works. PEP 517 keeps pip 23.0 from its legacy setup.py way.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USE_PEP517=1 PIP_CONSTRAINT=build-constraints.txt \
	PIP_BUILD_CONSTRAINT=build-constraints.txt $(BIN)/python -m pip

.DEFAULT_GOAL := help
.PHONY: help env demo test lint types unit slow drills clean benchmark-phantom64 benchmark-lgg64 benchmark-cxr64 weights-phantom64-cfg weights-cxr64-cfg weights-cxr64-prior weights-lgg64-cfg
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-21s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

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
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile -m "not slow and not gpu"

slow: $(INSTALLED) ## tests that take minutes, and on a CUDA machine those that need it
	$(BIN)/python -m pytest -m "slow or gpu"

# Exit code 1 where anything was lost; `make drills SCALE=0.1` is a quick look.
SCALE ?= 1
drills: $(INSTALLED) ## inject faults by the hundred (kills, full disks, damaged files, ...) and count what is lost, in runs/drills/drills.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.drills runs/drills --scale $(SCALE)

PHANTOM_TRAIN := runs/phantom-train --num-patients 1500 --fractions '[0.9,0.1,0]'
PHANTOM_TEST := runs/phantom-test --num-patients 120 --seed 1 --fractions '[0,0.3,0.7]'

weights-phantom64-cfg: $(INSTALLED) ## retrain and measure the shipped phantom weights: about an hour on one core
	$(BIN)/medanomaly data phantom $(PHANTOM_TRAIN)
	$(BIN)/medanomaly train phantom64-cfg --data runs/phantom-train/manifest.csv --out runs/phantom64-cfg --licence Apache-2.0
	$(BIN)/medanomaly data phantom $(PHANTOM_TEST)
	$(BIN)/medanomaly evaluate runs/phantom64-cfg runs/phantom-test/manifest.csv runs/eval-phantom --title "Chest phantoms, 64 x 64"
	$(BIN)/medanomaly export runs/phantom64-cfg medanomaly/weights/phantom64-cfg --overwrite true --evaluation runs/eval-phantom \
		--command "make weights-phantom64-cfg" --data-note "Chest phantoms with pleural effusions, drawn by this package (seed 0)."

# INDEX is a CSV with the columns image, patient, label (0 or 1) and split, images beside it: docs/results.md says what was used.
weights-cxr64-cfg: $(INSTALLED) ## retrain and measure the shipped chest X-ray weights: INDEX=path/index.csv
	$(BIN)/medanomaly data table $(INDEX) runs/cxr.csv --columns.patient patient --columns.label label --columns.split split \
		--labels '{"0": healthy, "1": diseased}' --splits '{train: train, val: test}' --val-fraction 0.1
	$(BIN)/medanomaly train gray64-cfg --data runs/cxr.csv --allow-outside true --out runs/cxr64-cfg \
		--method.map.median-px 0 --method.map.smooth-px 1.5 --method.map.image-score mean \
		--licence "weights Apache-2.0; trained on chest X-rays of Kermany et al. 2018, CC BY 4.0"
	$(BIN)/medanomaly evaluate runs/cxr64-cfg runs/cxr.csv runs/eval-cxr --allow-outside true --max-val-images 128 \
		--title "Chest X-rays, pneumonia, 64 x 64"
	$(BIN)/medanomaly export runs/cxr64-cfg medanomaly/weights/cxr64-cfg --overwrite true --evaluation runs/eval-cxr \
		--command "make weights-cxr64-cfg INDEX=path/index.csv" \
		--data-note "Paediatric chest X-rays, normal and pneumonia (Kermany et al., Cell 172:1122, 2018; Mendeley Data rscbjbr9sj; CC BY 4.0)."

# The manifest is that of weights-cxr64-cfg.
weights-cxr64-prior: $(INSTALLED) ## retrain and measure the shipped deblurring prior; needs runs/cxr.csv
	$(BIN)/medanomaly train gray64-prior --data runs/cxr.csv --allow-outside true --out runs/cxr64-prior \
		--licence "weights Apache-2.0; trained on chest X-rays of Kermany et al. 2018, CC BY 4.0"
	$(BIN)/python -m benchmarks.deblur runs/cxr64-prior runs/cxr.csv runs/deblur-cxr64 --num_images 32 --num_wrong 12 --steps 20 100 --allow_outside
	$(BIN)/medanomaly export runs/cxr64-prior medanomaly/weights/cxr64-prior --overwrite true --command "make weights-cxr64-prior" \
		--data-note "Paediatric chest X-rays, normal and pneumonia (Kermany et al., Cell 172:1122, 2018; Mendeley Data rscbjbr9sj; CC BY 4.0)."

# Besides: mask (blank = looked at, no tumour), p995 (value that becomes white) and use (1 = take the row).
weights-lgg64-cfg: $(INSTALLED) ## retrain and measure the shipped brain MRI weights: INDEX=path/index.csv
	$(BIN)/medanomaly data table $(INDEX) runs/lgg.csv --columns.patient patient --columns.label label --columns.split split \
		--columns.mask mask --columns.blank-mask empty --columns.intensity-high p995 --labels '{"0": healthy, "1": diseased}' \
		--where '{use: "1"}'
	$(BIN)/medanomaly train gray64-cfg --data runs/lgg.csv --allow-outside true --out runs/lgg64-cfg --training.num-steps 5000 \
		--method.map.change brighter --method.map.smooth-px 1.0 \
		--licence "CC BY-NC-SA 4.0 (trained on the LGG Segmentation Dataset, Buda et al. 2019): research, non-commercial"
	$(BIN)/medanomaly evaluate runs/lgg64-cfg runs/lgg.csv runs/eval-lgg --allow-outside true --max-val-images 128 \
		--title "Brain MRI (FLAIR), lower-grade glioma, 64 x 64"
	$(BIN)/medanomaly export runs/lgg64-cfg medanomaly/weights/lgg64-cfg --overwrite true --evaluation runs/eval-lgg \
		--command "make weights-lgg64-cfg INDEX=path/index.csv" \
		--data-note "FLAIR slices of 88 lower-grade glioma patients (LGG Segmentation Dataset, Buda et al. 2019; TCGA-LGG; CC BY-NC-SA 4.0)."

# The same command again continues. Hours on two cores: benchmarks/*.yaml say what is trained; the manifests are those of weights-*.
benchmark-phantom64: $(INSTALLED) ## every method on chest phantoms, in runs/benchmark-phantom64/table.md
	test -f runs/phantom-train/manifest.csv || $(BIN)/medanomaly data phantom $(PHANTOM_TRAIN)
	test -f runs/phantom-test/manifest.csv || $(BIN)/medanomaly data phantom $(PHANTOM_TEST)
	$(BIN)/medanomaly benchmark benchmarks/phantom64.yaml runs/benchmark-phantom64

benchmark-lgg64: $(INSTALLED) ## every method on brain MRI; needs runs/lgg.csv
	$(BIN)/medanomaly benchmark benchmarks/lgg64.yaml runs/benchmark-lgg64

benchmark-cxr64: $(INSTALLED) ## every method on chest X-rays; needs runs/cxr.csv
	$(BIN)/medanomaly benchmark benchmarks/cxr64.yaml runs/benchmark-cxr64

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
