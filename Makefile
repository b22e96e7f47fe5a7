# Every target does its own set-up: the virtual environment, the pinned packages, the data.
PYTHON ?= python3
export PYTHON
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RAY := $(VENV)/.ray
SUBMITIT := $(VENV)/.submitit
DASHBOARD := $(VENV)/.dashboard
EXPORT := $(VENV)/.export
BROWSER := $(VENV)/.browser
DEV := $(VENV)/.dev
FUZZ := $(VENV)/.fuzz
RIVALS := $(VENV)/.rivals
# Else every process would compile again what it imports.
unexport PYTHONDONTWRITEBYTECODE

# Options are given as NAME=value on the command line; the environment does not count. No value is ever read as make's
# or a shell's language: recipes find it, word for word, in their environment. NAME is a command's --name; `make study`
# passes on all that are given.
OPTIONS := PYTHON NAME NAMES DATA PROTOCOL SEED SEEDS STORE FIX FOLDS REPEATS TRIALS EPOCHS HOURS UNTIL PATIENCE TRIAL_MINUTES \
	SAMPLER WARM_START WORKERS DEVICE THREADS POOL RAY_ADDRESS GPUS_PER_TRIAL SLURM KEEP CHECKPOINT_EVERY HUNG_AFTER STORE_PATIENCE PORT OUT \
	RUN RESULTS FORCE TEST TRIAL MODEL IMAGE AUDIO INPUT TABLE LABEL PROBABILITIES TOP ABSTAIN_AT COVERAGE STUDIES VERSION FORMAT TO MINUTES ROUNDS ROWS READERS SIDES KILL FULL
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command,$(origin $(name))),$(name)))
$(if $(filter-out $(OPTIONS),$(GIVEN)),$(error $(filter-out $(OPTIONS),$(GIVEN)) is none of the options $(OPTIONS)))
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name)))$(eval export $(name)))
given = $(if $(filter $(1),$(GIVEN)),$($(1)))
on = $(filter-out 0,$(call given,$(1)))
each = $(if $(call given,$(1)),$$$(1))
one = $(if $(call given,$(1)),"$$$(1)")
# Where one target is asked for, what it would ignore is refused.
takes = $(if $(filter 1,$(words $(MAKECMDGOALS))),$(if $(filter-out PYTHON $(1),$(GIVEN)),$(error make $@ takes no $(filter-out PYTHON $(1),$(GIVEN)))))
# Options $(1), as a command has them; $(2) are those that the target takes otherwise.
flags = $(call takes,$(1) $(2))$(foreach name,$(filter $(GIVEN),$(1)),--$(shell echo $(name) | tr A-Z_ a-z-) "$$$(name)")
need = $(or $(call one,$(1)),$(error $(1)=... is missing, $(if $(filter MODEL,$(1)),a model that `make promote` registered,one of those that `make studies` lists)))
# Install $(1), which is $(2), at the pinned versions; says how far it is, on a terminal in one line that changes.
define install
	@echo "installing $(2) into $(VENV), at the pinned versions" >&2
	@log=$(VENV)/install.log; : > $$log; there() { ls $(VENV)/lib/python*/site-packages 2>/dev/null | grep -c 'dist-info$$'; }; had=$$(there); \
		far() { total=$$(sed -n 's/^Installing collected packages: //p' $$log | wc -w); \
			if test $$total = 0; then echo "packages looked up: $$(grep -c '^ *Collecting' $$log)"; \
			else echo "packages unpacked: $$(($$(there) - had)) of $$((total))"; fi; }; \
		( seconds=0; while sleep 1 > /dev/null 2>&1 && kill -0 $$$$ 2>/dev/null; do seconds=$$((seconds + 1)); \
			if test -t 2; then printf '\r\033[K  %s s, %s' $$seconds "$$(far)"; \
			elif test $$((seconds % 5)) = 0; then echo "  $$seconds s, $$(far)"; fi; done >&2 ) & telling=$$!; \
		$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --no-compile \
			--constraint constraints.txt $(1) > $$log 2>&1; code=$$?; \
		kill $$telling; if test -t 2; then printf '\r\033[K' >&2; fi; \
		test $$code = 0 || { tail -n 20 $$log >&2; exit $$code; }
endef
SEARCHED = $(or $(call one,STORE),mlruns)/optuna.db
# Which study of a name is meant.
WHICH := DATA PROTOCOL SEED STORE FOLDS STUDIES

.DEFAULT_GOAL := help
.PHONY: help setup studies doctor init study best ensemble ui dashboard report robustness compare reproduce promote predict serve demo export data test test-slow torture fuzz lint type bench bench-search audit clean

help: ## Explain the targets
	@echo "make TARGET [NAME=value ...]"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | \
		while IFS='|' read -r target text; do printf '  %-14s %s\n' "$$target" "$$text"; done

setup: $(READY) ## Make .venv with every package that running needs, at its pinned version

# The pip that Python 3.11 brings takes twice as long. What is unpacked is compiled when it is imported: of most packages little is.
$(READY): pyproject.toml setup.py constraints.txt
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mmtune needs Python 3.11 or newer, $$PYTHON is $$("$$PYTHON" -V 2>&1); try make PYTHON=python3.11 ..." >&2; exit 2; }
	@test -x $(BIN)/python || { echo "making $(VENV)" >&2; "$$PYTHON" -m venv $(VENV); }
	$(call install,pip,pip)
	$(call install,--editable .,what running needs)
	@touch $@

# What POOL=ray needs beside the rest.
$(RAY): $(READY)
	$(call install,--editable '.[ray]',Ray)
	@touch $@

# What POOL=slurm needs beside the rest.
$(SUBMITIT): $(READY)
	$(call install,--editable '.[slurm]',submitit)
	@touch $@

# What `make dashboard` needs beside the rest.
$(DASHBOARD): $(READY)
	$(call install,--editable '.[dashboard]',optuna-dashboard)
	@touch $@

# What `make export TO=onnx` needs beside the rest.
$(EXPORT): $(READY)
	$(call install,--editable '.[export]',what writes ONNX)
	@touch $@

# What drives the Chromium that is there, in tests of pages that need more than to be drawn.
$(BROWSER): $(READY)
	$(call install,--editable '.[browser]',Playwright)
	@touch $@

# What developers need beside the rest. Tests start many processes, so all is compiled, but for what some packages have as
# files of another Python.
$(DEV): $(READY)
	$(call install,--editable '.[dev]',the developers' tools)
	@echo "compiling all packages" >&2
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > $(VENV)/compiled.log || true
	@touch $@

# What `make fuzz` needs beside the rest.
$(FUZZ): $(DEV)
	$(call install,--editable '.[fuzz]',atheris)
	@touch $@

# What `make bench-search` needs beside the rest.
$(RIVALS): $(READY)
	$(call install,--editable '.[rivals]',what others search with)
	@touch $@

studies: $(READY) ## List the studies [STUDIES= STORE=]
	@$(BIN)/mmtune studies $(call flags,STUDIES STORE)

doctor: $(READY) ## Say what is here and what is missing: versions, device, disk, store, data, extras [DATA= STORE=]
	@$(BIN)/mmtune doctor $(call flags,DATA STUDIES STORE)

init: $(READY) ## Write a study's file to begin with: NAME=my_study [DATA= STUDIES=]
	@$(BIN)/mmtune init $(or $(call one,NAME),$(error NAME=my_study is missing)) $(call flags,DATA STUDIES,NAME)

study: $(READY) $(if $(filter ray,$(call given,POOL)),$(RAY)) $(if $(filter slurm,$(call given,POOL)),$(SUBMITIT)) ## Run a study: NAME=audio_rnn [and any option of its command: DATA= TRIALS= EPOCHS= HOURS= SAMPLER= PROTOCOL= SEED= FOLDS= WORKERS= THREADS= DEVICE= FIX= POOL=ray or slurm ...]
	@$(BIN)/mmtune study $(call need,NAME) $(call flags,$(filter-out PYTHON NAME,$(OPTIONS)),NAME)

best: $(READY) ## Find the best model that a given time allows, with a certificate [DATA= HOURS=1 PROTOCOL= SEED= WORKERS= DEVICE= STORE= STUDIES=]
	@$(BIN)/mmtune best $(call flags,DATA HOURS PROTOCOL SEED WORKERS DEVICE STORE STUDIES)

ensemble: $(READY) ## Let the best trials of a study answer together, a model to promote: NAME=... [FOLDS= RUN= DATA= PROTOCOL= SEED=]
	@$(BIN)/mmtune ensemble $(call need,NAME) $(call flags,FOLDS RUN DATA PROTOCOL SEED STORE STUDIES,NAME)

ui: $(READY) ## Open the MLflow UI on loopback [PORT=5000]
	@$(BIN)/mmtune ui $(call flags,PORT STORE)

dashboard: $(DASHBOARD) ## Open Optuna's dashboard on a copy of a study, on loopback: NAME=... [PORT=8080 STORE= and as for report]
	@rm -f $(SEARCHED)
	@$(BIN)/mmtune optuna $(call need,NAME) $(call flags,$(WHICH) RUN,NAME PORT) --out sqlite:///$(SEARCHED)
	@$(BIN)/optuna-dashboard --host 127.0.0.1 --port $(or $(call one,PORT),8080) sqlite:///$(SEARCHED)

report: $(READY) ## Write one HTML page on a study: NAME=... [DATA= PROTOCOL= SEED= FOLDS= RUN= OUT= FORMAT=pdf, png or svg]
	@$(BIN)/mmtune report $(call need,NAME) $(call flags,$(WHICH) RUN OUT FORMAT,NAME)

robustness: $(READY) ## Measure a study's best trial while its inputs go wrong: NAME=... [TEST=1 for the test partition, and as for report]
	@$(BIN)/mmtune robustness $(call need,NAME) $(call flags,$(WHICH) RUN,NAME TEST) $(if $(call on,TEST),--test)

reproduce: $(READY) ## Hold reported numbers against measured ones [NAMES="a b" DATA= FULL=1 EPOCHS= SEEDS="0 1" WORKERS= THREADS= DEVICE= STORE= RESULTS=]
	@set -f; $(BIN)/python -m reproduction $(call each,NAMES) $(call flags,DATA EPOCHS SEEDS WORKERS THREADS DEVICE STORE RESULTS,NAMES FULL) $(if $(call on,FULL),--full)

compare: $(READY) ## Test whether studies differ, with a page: NAMES="reference other ..." [DATA= PROTOCOL= SEED= FOLDS= OUT=]
	@set -f; $(BIN)/mmtune compare $(or $(call each,NAMES),$(error NAMES="reference other ..." is missing)) \
		$(call flags,$(WHICH) OUT,NAMES)

promote: $(READY) ## Register a study's best model, or a trial's: NAME=... [TRIAL= RUN= DATA= PROTOCOL= SEED= FORCE=1]
	@$(BIN)/mmtune promote $(call need,NAME) $(call flags,TRIAL RUN DATA PROTOCOL SEED STORE STUDIES,NAME FORCE) $(if $(call on,FORCE),--force)

predict: $(READY) ## Predict: MODEL=... IMAGE=x.png AUDIO=x.wav INPUT=age=31 [folders, or TABLE=, or DATA=] [LABEL=column OUT=x.csv PROBABILITIES=1 TOP=3 VERSION=2 ABSTAIN_AT=1% COVERAGE=95% STUDIES=]
	@$(BIN)/mmtune predict --model $(call need,MODEL) $(call flags,IMAGE AUDIO INPUT TABLE LABEL DATA OUT TOP VERSION ABSTAIN_AT COVERAGE STUDIES STORE,MODEL PROBABILITIES) \
		$(if $(call on,PROBABILITIES),--probabilities)

serve: $(READY) ## Answer requests for a registered model on loopback: MODEL=... [PORT=5001 VERSION= STUDIES= STORE=]
	@$(BIN)/mmtune serve $(call need,MODEL) $(call flags,PORT VERSION STUDIES STORE,MODEL)

demo: $(READY) ## Open a page to play with a registered model, on loopback: MODEL=... [PORT=5001 VERSION= DATA= STUDIES= STORE=]
	@$(BIN)/mmtune demo $(call need,MODEL) $(call flags,PORT VERSION DATA STUDIES STORE,MODEL)

export: $(READY) $(if $(filter onnx,$(call given,TO)),$(EXPORT)) ## Write a registered model as one file that runs without mmtune: MODEL=... TO=onnx or pt2 [OUT= VERSION= DATA= STUDIES= STORE=]
	@$(BIN)/mmtune export $(call need,MODEL) --to $(or $(call one,TO),$(error TO=onnx or TO=pt2 is missing)) $(call flags,OUT VERSION DATA STUDIES STORE,MODEL TO)

data: $(READY) ## Make the bundled sample if need be and describe it, or the set in DATA=
	@$(BIN)/mmtune data info $(call takes,DATA)$(call one,DATA)

test: $(DEV) ## Run the fast tests
	@$(BIN)/python -m pytest -m 'not slow and not cuda' -n 2 -q

test-slow: $(DEV) $(BROWSER) ## Run all tests; MMTUNE_REAL_DATA=DIR adds those on real MNIST and recordings
	@$(BIN)/python -m pytest -q --timeout 1800

torture: $(DEV) ## Kill processes of studies at random for MINUTES=3, then check that nothing is missing
	@$(BIN)/python tests/faults/torture.py $(call flags,MINUTES SEED)

lint: $(DEV) ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

type: $(DEV) ## Check types
	@$(BIN)/mypy

bench: $(READY) ## Measure against the plain loop [NAMES="a b" DATA= DEVICE= WORKERS= ROUNDS= TRIALS= EPOCHS= ROWS= OUT=]
	@set -f; $(BIN)/python -m benchmarks.bench $(call each,NAMES) $(call flags,DATA DEVICE WORKERS ROUNDS TRIALS EPOCHS ROWS OUT,NAMES)

bench-search: $(RIVALS) ## Measure time to an answer beside other tools [SIDES="mmtune ray" DATA= ROWS= SEEDS=0,1,2 TRIALS= EPOCHS= OUT= KILL=1]
	@$(BIN)/python -m benchmarks.search $(call flags,SIDES DATA ROWS SEEDS TRIALS EPOCHS OUT,KILL) $(if $(call on,KILL),--kill)

fuzz: $(FUZZ) ## Fuzz every file reader, guided by coverage, for MINUTES=5 of all together [READERS="wav png"]
	@set -f; $(BIN)/python tests/safety/fuzz.py $(call flags,MINUTES,READERS) $(if $(call given,READERS),--readers $(call each,READERS))

audit: ## Look for known vulnerabilities in the pinned packages (needs the network)
	@test -x $(VENV)/audit/bin/pip-audit || { "$$PYTHON" -m venv $(VENV)/audit && \
		$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1; }
	@$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt --progress-spinner off

clean: ## Remove the environment and caches, never runs or data
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info
