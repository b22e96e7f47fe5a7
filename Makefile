# Every target does its own set-up: the virtual environment, the pinned packages, the data.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Options of the verbs, given as NAME=value, passed on where they are set.
flag = $(if $($(2)),--$(1) '$($(2))')
DATA_FLAGS = $(call flag,data,DATA) $(call flag,protocol,PROTOCOL) $(call flag,seed,SEED)
RUN_FLAGS = $(call flag,trials,TRIALS) $(call flag,epochs,EPOCHS) $(call flag,sampler,SAMPLER) \
	$(call flag,workers,WORKERS) $(call flag,device,DEVICE)

.DEFAULT_GOAL := help
.PHONY: help setup study ui report promote predict data test test-slow lint type bench clean

help: ## Explain the targets
	@echo "make TARGET [NAME=value ...]"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | \
		while IFS='|' read -r target text; do printf '  %-10s %s\n' "$$target" "$$text"; done

setup: $(READY) ## Make .venv with every package at its pinned version

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mmtune needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1); try make PYTHON=python3.11 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

study: $(READY) ## Run a study: NAME=audio_rnn [DATA= TRIALS= EPOCHS= SAMPLER= PROTOCOL= SEED= WORKERS= DEVICE=]
	@$(BIN)/mmtune study $(or $(NAME),$(error NAME=... is missing; `make data` and `.venv/bin/mmtune studies` list what there is)) $(DATA_FLAGS) $(RUN_FLAGS)

ui: $(READY) ## Open the MLflow UI on loopback [PORT=5000]
	@$(BIN)/mmtune ui $(call flag,port,PORT)

report: $(READY) ## Write one HTML page on a study: NAME=... [DATA= PROTOCOL= SEED= OUT=]
	@$(BIN)/mmtune report $(or $(NAME),$(error NAME=... is missing)) $(DATA_FLAGS) $(call flag,out,OUT)

promote: $(READY) ## Register a study's best model: NAME=... [DATA= PROTOCOL= SEED=]
	@$(BIN)/mmtune promote $(or $(NAME),$(error NAME=... is missing)) $(DATA_FLAGS)

predict: $(READY) ## Predict a digit: MODEL=... IMAGE=x.png AUDIO=x.wav
	@$(BIN)/mmtune predict --model $(or $(MODEL),$(error MODEL=... is missing)) $(call flag,image,IMAGE) \
		$(call flag,audio,AUDIO) $(call flag,data,DATA) $(call flag,out,OUT)

data: $(READY) ## Make the bundled sample if need be and describe it, or the set in DATA=
	@$(BIN)/mmtune data info $(DATA)

test: $(READY) ## Run the fast tests
	@$(BIN)/python -m pytest -m 'not slow and not cuda' -n 2 -q

test-slow: $(READY) ## Run all tests; MMTUNE_REAL_DATA=DIR adds those on real MNIST and recordings
	@$(BIN)/python -m pytest -q --timeout 1800

lint: $(READY) ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

type: $(READY) ## Check types
	@$(BIN)/mypy

bench: $(READY) ## Measure against the plain loop [DEVICE=cpu]
	@$(BIN)/python benchmarks/plain_loop.py $(call flag,device,DEVICE)

clean: ## Remove the environment and caches, never runs or data
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info
