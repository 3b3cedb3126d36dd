# Everything that one does with this repository. `make` lists it; needs make, Python 3.11-3.13 with python3-venv,
# and Docker for containers. Nothing needs root, nothing is installed outside this folder.
PYTHON ?= python3
EXAMPLES := hello_world passing_arguments simple_ml image_classification
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

UV := .venv/scripts/bin/uv

.DEFAULT_GOAL := help
.PHONY: help run stop logs test lint sbom measure soak overload fuzz bench train lock clean

help:  ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## */\1\t/' | expand -t 12

run:  ## build and start the four examples on ports 5001-5004 (PORT=6001: on 6001-6004)
	@$(PYTHON) scripts/run.py start --port $(or $(PORT),5001) $(EXAMPLES)

run-%:  ## build and start one, such as run-simple_ml, on port 5000 (or PORT)
	@$(PYTHON) scripts/run.py start --port $(or $(PORT),5000) $*

stop:  ## stop what `make run` started
	@$(PYTHON) scripts/run.py stop $(EXAMPLES)

logs:  ## show what the examples printed
	@$(PYTHON) scripts/run.py logs $(EXAMPLES)

test: .venv/tests .venv/benchmarks $(addprefix .venv/,$(EXAMPLES)) .venv/image_classification-train .venv/kubernetes .venv/fuzz simple_ml/model.onnx  ## run the tests (ARGS="-k iris": some of them)
	.venv/tests/bin/python -m pytest $(ARGS)

lint: .venv/tests  ## check style, types, Dockerfiles, and the packages for known vulnerabilities
	.venv/tests/bin/ruff check .
	.venv/tests/bin/ruff format --check .
	@for folder in $(EXAMPLES) benchmarks fuzz scripts tests; do echo "mypy $$folder"; (cd $$folder && ../.venv/tests/bin/mypy --config-file ../pyproject.toml *.py) || exit 1; done
	.venv/tests/bin/hadolint */Dockerfile*
	@.venv/tests/bin/python scripts/audit.py

sbom: .venv/tests $(addprefix .venv/,$(EXAMPLES))  ## write what the images hold into sbom/, in the format of CycloneDX
	@.venv/tests/bin/python scripts/sbom.py $(EXAMPLES)

measure: .venv/tests  ## print size, start, memory and stop of the four containers, and the cost of a picture
	@.venv/tests/bin/python scripts/measure.py
	@.venv/tests/bin/python scripts/measure_pictures.py

soak: .venv/tests  ## half an hour at half load on the four containers: does memory grow? (MINUTES=5)
	@.venv/tests/bin/python scripts/soak.py $(or $(MINUTES),30)

overload: .venv/tests  ## ten times the clients that each container can serve, and slow ones beside another
	@.venv/tests/bin/python scripts/overload.py

fuzz: .venv/fuzz simple_ml/model.onnx  ## fuzz what goes into /predict, ten minutes each (TARGET=simple_ml SECONDS=60: one, for a minute)
	@for target in $(or $(TARGET),passing_arguments simple_ml image_classification image_classification_form); do \
		.venv/fuzz/bin/python fuzz/fuzz.py $$target -max_total_time=$(or $(SECONDS),600) || exit 1; done

bench: .venv/benchmarks .venv/simple_ml-train .venv/image_classification-train  ## compare with other ways to serve, half an hour (ARGS="--quick --groups iris": a part)
	@.venv/benchmarks/bin/python benchmarks/bench.py $(ARGS)

train: .venv/simple_ml-train .venv/image_classification-train  ## train both models anew (DATA=mnist.npz: with your copy of MNIST)
	cd simple_ml && ../.venv/simple_ml-train/bin/python train.py
	cd image_classification && ../.venv/image_classification-train/bin/python train.py $(if $(DATA),--data $(abspath $(DATA)))

lock: .venv/scripts  ## renew every requirements.txt from its requirements.in
	@for file in $(basename $(wildcard */requirements*.in benchmarks/*/requirements.in)); do echo "$$file.txt"; (cd $$(dirname $$file) && \
		$(CURDIR)/$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" $$(basename $$file).in --output-file $$(basename $$file).txt) || exit 1; done

clean: stop  ## remove what the other targets made
	rm -rf .venv .run sbom .pytest_cache .ruff_cache .mypy_cache simple_ml/model.onnx
	find . -name __pycache__ -prune -exec rm -rf {} +

simple_ml/model.onnx: simple_ml/train.py simple_ml/export.py | .venv/simple_ml-train
	cd simple_ml && ../.venv/simple_ml-train/bin/python train.py

# One virtual environment for each requirements.txt: .venv/simple_ml, and .venv/simple_ml-train for requirements-train.txt
.venv/scripts: scripts/requirements.txt
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "$(PYTHON) is $$($(PYTHON) -V). Set one from 3.11 to 3.13, as in: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@rm -rf $@ && $(PYTHON) -m venv $@ && $@/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $< || { rm -rf $@; exit 1; }
	@touch $@

.venv/%-train: %/requirements-train.txt | .venv/scripts
	$(create_venv)

.venv/%: %/requirements.txt | .venv/scripts
	$(create_venv)

define create_venv
@echo "Installing $< into $@"
@rm -rf $@ && $(UV) venv --quiet --python $(PYTHON) $@ && $(UV) pip install --quiet --python $@ --require-hashes -r $< || { rm -rf $@; exit 1; }
@touch $@
endef
