# Every target sets up by itself: `make demo` and `make test` are enough on a fresh machine.

PYTHON ?= python3
JOBS ?= 4

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
LOWEST := .venv-lowest
LOWEST_STAMP := $(LOWEST)/.stamp
EXTRAS := .venv-extras
EXTRAS_STAMP := $(EXTRAS)/.stamp
# What other tools of the benchmarks have in environments of their own.
PEERS := $(patsubst benchmarks/peers/%.txt,.peers/%/.stamp,$(wildcard benchmarks/peers/*.txt))

# Compiled once, also where the environment says otherwise: the tests start Python many times.
OFFLINE := HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=
# In the order of collection, long files first; more jobs than cores fill the waits.
PYTEST_FLAGS := -n $(JOBS) --dist loadfile --no-loadscope-reorder
PIN := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--no-emit-index-url --no-annotate --custom-compile-command "make pins" pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-lowest test-extras check format bench peers docs pins wheel clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the pinned packages; quick when nothing changed

demo: $(STAMP) ## Run the first experiment: three families, four pictures, a certificate each
	$(BIN)/sightline demo --output runs/demo

test: $(STAMP) ## Run every test
	$(OFFLINE) $(BIN)/python -m pytest $(PYTEST_FLAGS) tests

test-lowest: $(LOWEST_STAMP) ## Run every test with the oldest supported packages
	$(OFFLINE) $(LOWEST)/bin/python -m pytest $(PYTEST_FLAGS) tests

test-extras: $(EXTRAS_STAMP) ## Run the tests that need bitsandbytes, DeepSpeed, Ray or Liger
	$(OFFLINE) $(EXTRAS)/bin/python -m pytest $(PYTEST_FLAGS) -m extra tests

check: $(STAMP) ## Lint, format, types, layers, known vulnerabilities, and the repository itself
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --warnings
	$(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/audit
	$(OFFLINE) $(BIN)/python -m pytest -q tests/repo

format: $(STAMP) ## Format the code and mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure everything, in an hour or two; other tools too, after make peers
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/positions.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/preparation.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/tuning.py
	$(BIN)/python benchmarks/startup.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/head_loss.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/proof.py
	$(BIN)/python benchmarks/gpu.py

peers: $(PEERS) ## Make .peers, where other tools live that the benchmarks measure: 11 GB

docs: $(STAMP) ## Write docs/configuration.md and the schema again and check what the documents say
	@{ printf '%s\n' '# The run configuration' '' \
		'Every key as `sightline config --explain` prints it. Written by `make docs`.' '' '```text' && \
		$(BIN)/sightline config --explain && printf '%s\n' '```'; } > docs/.configuration.md && \
		mv docs/.configuration.md docs/configuration.md
	@$(BIN)/python -c 'import json; from sightline.records.certificate import certificate_schema; \
		print(json.dumps(certificate_schema(), indent=2))' > docs/.certificate.schema.json && \
		mv docs/.certificate.schema.json docs/certificate.schema.json
	$(OFFLINE) $(BIN)/python -m pytest -q tests/repo/test_documents.py tests/repo/test_commands.py

pins: $(STAMP) ## Resolve requirements.txt and its two companions again
	$(PIN) --upgrade --extra dev --output-file requirements.txt
	$(PIN) --upgrade --extra test --resolution lowest-direct --output-file requirements-lowest.txt
	$(PIN) --upgrade --constraint requirements.txt --extra test --extra trackers --extra qlora \
		--extra liger --extra deepspeed --extra ray --output-file requirements-extras.txt

wheel: $(STAMP) ## Build the wheel, install it into an empty environment, and run the demo there
	rm -rf dist
	$(BIN)/uv build --quiet --wheel --out-dir dist
	$(BIN)/uv venv --quiet --clear dist/environment
	$(BIN)/uv pip install --quiet --python dist/environment/bin/python \
		--constraint requirements.txt dist/*.whl
	cd dist && environment/bin/sightline demo --output demo

clean: ## Remove the environments and caches; runs/ stays
	rm -rf $(VENV) $(LOWEST) $(EXTRAS) .peers dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(STAMP): pyproject.toml requirements.txt
	$(call make_environment,$(VENV),requirements.txt)

$(LOWEST_STAMP): pyproject.toml requirements-lowest.txt requirements.txt
	$(call make_environment,$(LOWEST),requirements-lowest.txt)

$(EXTRAS_STAMP): pyproject.toml requirements-extras.txt requirements.txt
	$(call make_environment,$(EXTRAS),requirements-extras.txt)

.peers/%/.stamp: benchmarks/peers/%.txt | $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .peers/$*
	$(BIN)/uv pip install --quiet --python .peers/$*/bin/python --requirements $<
	@touch $@

# $(1) the environment, $(2) its pins. uv and the build tool have the versions of requirements.txt.
define make_environment
	@command -v $(PYTHON) >/dev/null || \
		{ echo "make: '$(PYTHON)' is not there. Install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1); Sightline needs Python 3.11 or newer. Name one: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.txt)"
	$(1)/bin/uv pip install --compile-bytecode --python $(1)/bin/python --requirements $(2)
	$(1)/bin/uv pip install --python $(1)/bin/python --no-deps --build-constraints requirements.txt --editable .
	@touch $(1)/.stamp
endef
