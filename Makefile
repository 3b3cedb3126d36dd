# Everything you can do with this repository: `make` lists it. It needs make, Python 3.11-3.14 with python3-venv, and
# Docker for containers. Nothing needs root, and nothing is installed outside this folder.
PYTHON ?= python3
EXAMPLES := hello_world passing_arguments simple_ml image_classification
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
# every folder with packages of its own
FOLDERS := $(sort $(dir $(wildcard */requirements*.in */*/requirements.in)))
SERVED := $(EXAMPLES:%=%/requirements.txt) image_classification/requirements-onnx.txt

UV := .venv/scripts/bin/uv

.DEFAULT_GOAL := help
.PHONY: help python run stop logs test test-all test-torch environments lint audit sbom arm64 measure soak overload fuzz bench train lock clean

help:  ## list the targets
	@grep -hE '^[a-z0-9%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9%-]+):.*## */\1\t/' | expand -t 12

python:
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1). Set one from 3.11 to 3.14, as in: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }

run: python  ## build and start the four examples on ports 5001-5004 (PORT=6001: on 6001-6004)
	@$(PYTHON) scripts/run.py start --port $(or $(PORT),5001) $(EXAMPLES)

run-%: python  ## build and start one example, such as run-simple_ml, on port 5000 (or PORT)
	@$(PYTHON) scripts/run.py start --port $(or $(PORT),5000) $*

stop: python  ## stop what `make run` started
	@$(PYTHON) scripts/run.py stop $(EXAMPLES)

logs: python  ## show what the examples printed
	@$(PYTHON) scripts/run.py logs $(EXAMPLES)

test: .venv/tests $(EXAMPLES:%=.venv/%) simple_ml/model.onnx  ## check that everything works on your machine (ARGS="-k iris": only some of it)
	.venv/tests/bin/python -m pytest $(ARGS)

# without the plugins of two packages, which no test uses, and which take a second to import
test-all: environments  ## run every test, four at a time, also those that need Docker, npm and Chromium
	.venv/ci/bin/python -m pytest -o norecursedirs= -p no:schemathesis -p no:hypothesispytest --numprocesses 4 --dist loadgroup --no-loadscope-reorder $(ARGS)

test-torch: .venv/torch  ## train small networks by the newest torch, export and compare them (some GB; FOLDER=…: keep the files)
	.venv/torch/bin/python tests/ci/torch_networks/make.py $(or $(FOLDER),.run/torch)

environments: .venv/ci .venv/tests $(EXAMPLES:%=.venv/%) simple_ml/model.onnx .venv/image_classification-train .venv/benchmarks .venv/fuzz  ## make all that the tests need (-j2: two at a time)

# mypy looks at one folder at a time, because the examples have modules of the same names
lint: .venv/ci  ## check style, types and Dockerfiles
	.venv/ci/bin/ruff check .
	.venv/ci/bin/ruff format --check .
	@for folder in $(EXAMPLES) benchmarks fuzz scripts tests tests/ci; do echo "mypy $$folder"; \
		(cd $$folder && MYPYPATH=$(CURDIR)/scripts:$(CURDIR)/tests $(CURDIR)/.venv/ci/bin/mypy --cache-dir $(CURDIR)/.mypy_cache --config-file $(CURDIR)/pyproject.toml *.py $$(ls */__init__.py 2>/dev/null | xargs -rn1 dirname)) || exit 1; done
	.venv/ci/bin/hadolint */Dockerfile*

audit: .venv/ci  ## look for published flaws, unsafe native libraries and ended projects in the locked packages
	@.venv/ci/bin/python scripts/audit.py $(SERVED) --others $(filter-out $(SERVED),$(wildcard $(FOLDERS:%=%requirements*.txt)))

sbom: .venv/ci $(EXAMPLES:%=.venv/%)  ## list the packages of each example in sbom/, in the format CycloneDX
	@mkdir -p sbom; for example in $(EXAMPLES); do echo "sbom/$$example.json"; \
		.venv/ci/bin/cyclonedx-py environment --output-reproducible --output-file sbom/$$example.json .venv/$$example || exit 1; done

arm64: python  ## build the four images for ARM, run them, and check their answers (minutes on ARM; up to an hour on Intel or AMD, in an emulator)
	@$(PYTHON) scripts/arm64.py $(ARGS)

measure: .venv/ci  ## measure size, start, memory and stop of the four containers, and the cost of a picture
	@.venv/ci/bin/python scripts/measure.py
	@.venv/ci/bin/python scripts/measure_pictures.py

soak: .venv/benchmarks  ## load the four containers at half of what they can answer, for half an hour: does memory grow? (MINUTES=5)
	@.venv/benchmarks/bin/python scripts/load.py soak $(or $(MINUTES),30)

overload: .venv/benchmarks  ## send ten times the clients that each container can serve, and slow clients
	@.venv/benchmarks/bin/python scripts/load.py overload

fuzz: .venv/fuzz simple_ml/model.onnx  ## fuzz /predict, ten minutes for each target (TARGET=simple_ml SECONDS=60: one target, for a minute)
	@for target in $(or $(TARGET),passing_arguments simple_ml image_classification image_classification_form); do \
		.venv/fuzz/bin/python fuzz/fuzz.py $$target -max_total_time=$(or $(SECONDS),600) || exit 1; done

bench: .venv/benchmarks .venv/simple_ml-train .venv/image_classification-train  ## compare with other ways to serve a model, for 40 minutes (ARGS="--quick --groups iris": a part)
	@.venv/benchmarks/bin/python benchmarks/bench.py $(ARGS)

train: .venv/simple_ml-train .venv/image_classification-train  ## train both models anew (DATA=mnist.npz: with your copy of MNIST)
	cd simple_ml && "$(CURDIR)"/.venv/simple_ml-train/bin/python train.py
	cd image_classification && "$(CURDIR)"/.venv/image_classification-train/bin/python train.py $(if $(DATA),--data $(abspath $(DATA)))

lock: .venv/scripts  ## renew every requirements.txt from its requirements.in
	@for file in $(basename $(wildcard $(FOLDERS:%=%requirements*.in))); do echo "$$file.txt"; (cd $$(dirname $$file) && \
		$(CURDIR)/$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" $$(basename $$file).in --output-file $$(basename $$file).txt) || exit 1; done

clean: stop  ## remove what the other targets made
	rm -rf .venv .run sbom .pytest_cache .ruff_cache .mypy_cache simple_ml/model.onnx simple_ml/model.pkl
	find . -name __pycache__ -prune -exec rm -rf {} +

# All files that train.py may read, and our folders that it imports. As in the Dockerfile, what is only for serving is
# left out.
SERVING := app.py batch.py client.py web templates README.md Dockerfile Dockerfile.copy requirements.in requirements-train.in \
	requirements.txt model.onnx model.pkl __pycache__ export runtime
simple_ml/model.onnx simple_ml/model.pkl: $(filter-out $(SERVING:%=simple_ml/%),$(wildcard simple_ml/*)) \
		$(wildcard simple_ml/export/*.py simple_ml/runtime/*.py) | .venv/simple_ml-train
	cd simple_ml && "$(CURDIR)"/.venv/simple_ml-train/bin/python train.py

# A virtual environment for each requirements.txt: .venv/simple_ml, and .venv/simple_ml-train for requirements-train.txt
.venv/scripts: scripts/requirements.txt | python
	@rm -rf $@ && $(PYTHON) -m venv $@ && $@/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $< || { rm -rf $@; exit 1; }
	@touch $@

.venv/ci: tests/ci/requirements.txt | .venv/scripts
	$(create_venv)

# the reader's own versions are not ours to lock
.venv/torch: image_classification/requirements-torch.in | .venv/scripts
	@rm -rf $@ && $(UV) venv --quiet --python $(PYTHON) $@ && $(UV) pip install --quiet --python $@ -r $< torch torchvision timm transformers fastai || { rm -rf $@; exit 1; }
	@touch $@

.venv/%-train: %/requirements-train.txt | .venv/scripts
	$(create_venv)

.venv/%: %/requirements.txt | .venv/scripts
	$(create_venv)

# compiled now, because Python may be set not to do so later (PYTHONDONTWRITEBYTECODE), and each start then takes seconds
COMPILE := --compile-bytecode
define create_venv
@echo "Installing $< into $@"
@rm -rf $@ && $(UV) venv --quiet --python $(PYTHON) $@ && $(UV) pip install --quiet $(COMPILE) --python $@ --require-hashes -r $< || { rm -rf $@; exit 1; }
@touch $@
endef
