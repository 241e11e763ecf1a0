# The GigaGAN workbench: `make app` opens it, `make test` checks it. Both set up .venv once and start at once after that.
#
#   make app    [PORT=7860] [HOST=127.0.0.1]   the app on the shipped model; prints its address
#   make lab                                   the notebooks in JupyterLab
#   make notebooks                             runs all notebooks at class size and stores them with their outputs
#   make test                                  lint, layers, tests, notebooks (a quarter of an hour on two cores)
#   make test-long                             the tests that take minutes each
#   make reports                               measures what the shipped models state again, and renews pictures and table
#   make demo-models [PROFILE=cpu|cuda]        trains everything that ships, from nothing; resumes where it stopped
#   make clean                                 removes .venv and caches; runs/ and assets/ stay
#
# Another Python: `make app PYTHON=python3.12`.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 7860
PROFILE ?= cpu
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
# A set-up is fresh while the requirements and the folder are the same, whatever git does to file times.
KEY := $(shell { pwd; cat pyproject.toml constraints.txt; } | cksum | cut -d' ' -f1)
APP_READY := $(VENV)/.ready-app-$(KEY)
DEV_READY := $(VENV)/.ready-dev-$(KEY)
RUN := $(PY) -m workbench.cli

# The stamp's key, for scripts and tests.
key:
	@echo $(KEY)

.PHONY: help key app lab notebooks test test-long demo-models ship ship-race reports readme constraints clean

help:
	@sed -n '2,/^$$/p' Makefile | sed 's/^#//; s/^ //'

# --- set-up ------------------------------------------------------------------------------------------------

# $(1): what to install, $(2): the stamp it leaves
define install
	started=$$SECONDS
	if ! command -v "$(PYTHON)" >/dev/null; then
	  echo "error: there is no $(PYTHON). Install Python 3.11 or newer: sudo apt-get install python3 python3-venv" >&2; exit 2
	fi
	if ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
	  echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), and 3.11 or newer is needed. Choose another: make $(or $(firstword $(MAKECMDGOALS)),app) PYTHON=python3.12" >&2
	  exit 2
	fi
	if ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then
	  echo "error: $(PYTHON) cannot make environments: python3-venv is missing. Install it: sudo apt-get install python3-venv" >&2
	  exit 2
	fi
	if ! "$(PY)" -m pip --version >/dev/null 2>&1; then "$(PYTHON)" -m venv --clear "$(VENV)"; fi
	echo "Setting up $(VENV) with $$($(PY) -V): some GB once, minutes on a warm package cache. Log: $(VENV)/install.log"
	if ! "$(PY)" -m pip install --no-compile --disable-pip-version-check --progress-bar off -c constraints.txt -e "$(1)" \
	    > "$(VENV)/install.log" 2>&1; then
	  tail -n 15 "$(VENV)/install.log" >&2
	  echo "error: the installation stopped; the whole log is $(VENV)/install.log. Mend the cause named above (network," \
	    "disk space: df -h .) and run the same command again: it goes on from what is there." >&2
	  exit 2
	fi
	rm -f $(VENV)/.ready-*
	touch $(2)
	echo "Set up in $$((SECONDS - started)) s."
endef

$(APP_READY):
	@$(call install,.,$@)

$(DEV_READY):
	@$(call install,.[dev],$@ $(APP_READY))

# --- commands ----------------------------------------------------------------------------------------------

app: $(APP_READY)
	@exec $(RUN) app --host $(HOST) --port $(PORT)

lab: $(APP_READY)
	@exec $(PY) -m jupyterlab --notebook-dir=notebooks --ip=$(HOST)

# No kernel state, no widget state, no times are stored; a cell that fails or warns leaves its file as it was.
notebooks: $(DEV_READY)
	@WORKBENCH_PROFILE=class $(PY) tests/notebooks/execute.py

test: $(DEV_READY)
	@if ! $(PY) -c 'import sys; from workbench.doctor import find_chromium; sys.exit(find_chromium() is None)'; then
	  echo "NOTE: no chromium here: the browser tests will be SKIPPED. To run them: sudo apt-get install chromium" >&2
	fi
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-cache
	WORKBENCH_PROFILE=smoke $(PY) -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=240 \
	  --nbval-kernel-startup-timeout=240 tests $(wildcard notebooks)

test-long: $(DEV_READY)
	@$(PY) -m pytest -m long -n 0 tests

# Everything that ships, from nothing, under runs/demo: hours on two cores. Each step that is done is not done again,
# and each that was interrupted goes on where it was.
DEMO := runs/demo
# The demo model is trained in two laps: the second goes on from the first one's G, once a fresh D has caught up with it.
LAST := $(DEMO)/second/shepherd-64
DEVICE := $(if $(filter cuda,$(PROFILE)),cuda,cpu)

demo-models: $(APP_READY)
	@case "$(PROFILE)" in cpu|cuda) ;; *) echo "error: PROFILE is $(PROFILE): use cpu or cuda." >&2; exit 2;; esac
	$(RUN) dataset world --out $(DEMO)/world --count 16000 --seed 0
	if [ ! -f $(DEMO)/mini-clip/model.safetensors ]; then
	  $(RUN) train-clip --data $(DEMO)/world --out $(DEMO)/mini-clip --resume --device $(DEVICE)
	fi
	if [ ! -f $(DEMO)/judge/model.safetensors ]; then $(RUN) train-judge --out $(DEMO)/judge; fi
	$(RUN) train --preset shepherd-64 --data $(DEMO)/world --out $(DEMO)/shepherd-64 \
	  --clip $(DEMO)/mini-clip --judge $(DEMO)/judge --device $(DEVICE)
	$(RUN) train --config benchmarks/second_lap_critics.json --data $(DEMO)/world --out $(DEMO)/second/critics \
	  --start-from $(DEMO)/shepherd-64/model --clip $(DEMO)/mini-clip --judge $(DEMO)/judge --device $(DEVICE)
	$(RUN) train --config benchmarks/second_lap.json --data $(DEMO)/world --out $(LAST) \
	  --start-from $(DEMO)/second/critics --clip $(DEMO)/mini-clip --judge $(DEMO)/judge --device $(DEVICE)
	$(RUN) gif $(LAST)
	$(RUN) evaluate faithfulness --model $(LAST)/model --judge $(DEMO)/judge --device $(DEVICE) --json \
	  | tee $(DEMO)/faithfulness.json
	if [ ! -f $(LAST)/model/latents/directions.json ]; then
	  $(RUN) directions --model $(LAST)/model --judge $(DEMO)/judge --device $(DEVICE)
	fi
	if [ ! -f $(LAST)/model/latents/encoder.json ]; then
	  $(RUN) train-encoder --model $(LAST)/model --device $(DEVICE)
	fi
	$(RUN) train --preset critics-64 --start-from $(LAST)/model --data $(DEMO)/world \
	  --out $(DEMO)/critics-64 --eval-every 0 --sample-every 40kimg --clip $(DEMO)/mini-clip --device $(DEVICE)
	$(RUN) export-critics $(DEMO)/critics-64 --out $(DEMO)/critics --clip $(DEMO)/mini-clip --overwrite
	$(RUN) diffusion train --preset shepherd-64 --data $(DEMO)/world --out $(DEMO)/shepherd-64-diffusion --images 210000 \
	  --clip $(DEMO)/mini-clip --device $(DEVICE)
	$(RUN) diffusion distill --teacher $(DEMO)/shepherd-64-diffusion/model --data $(DEMO)/world \
	  --critics $(DEMO)/critics --out $(DEMO)/shepherd-64-student --rank 4 --minutes 25 --device $(DEVICE)
	$(RUN) dataset world --out $(DEMO)/world-256 --count 1600 --seed 11 --resolution 256
	$(RUN) train --config benchmarks/upsampler_by_pixels.json --data $(DEMO)/world-256 --out $(DEMO)/up4-by-pixels \
	  --clip $(DEMO)/mini-clip --device $(DEVICE)
	$(RUN) train --preset shepherd-up4 --data $(DEMO)/world-256 --out $(DEMO)/shepherd-up4 \
	  --start-from $(DEMO)/up4-by-pixels --clip $(DEMO)/mini-clip --device $(DEVICE)
	$(RUN) ablate --data $(DEMO)/world --out $(DEMO)/ablation --clip $(DEMO)/mini-clip --judge $(DEMO)/judge --device $(DEVICE)
	echo "The models are in $(DEMO). Look at them: $(RUN) app --model $(LAST)/model"

# README's picture of the shipped model: drawn as PNG, shipped as WebP.
define SAMPLES
	$(RUN) gallery --out runs/pictures
	mkdir -p assets/pictures
	$(PY) -c 'from workbench.training.shipping import to_webp; to_webp("runs/pictures/samples.png", "assets/pictures")'
endef

# What a race measured, where the app, the notebooks and README look for it.
define RACE
	cp runs/race/race.json assets/reports/race.json
	$(PY) -c 'from workbench.training.shipping import to_webp; to_webp("runs/race/race.png", "assets/reports")'
endef

# The report of 5,000 pictures, which the Evaluate tab opens with; its plots stand in the page.
define REPORT
	mkdir -p assets/reports/shepherd-64
	cp runs/reports/shepherd-64/report.{html,json} assets/reports/shepherd-64/
endef

# Put a finished run where the app, the notebooks and README look for it, with the story of the laps before it. Of their
# grids as many as have room in what ships.
LAPS ?= $(DEMO)/shepherd-64 $(DEMO)/second/critics $(LAST)
RUN_TO_SHIP := $(lastword $(LAPS))
GRIDS ?= 10
ship: $(APP_READY)
	@test -d "$(RUN_TO_SHIP)/model" || { echo "error: $(RUN_TO_SHIP) is no finished run: make demo-models, or LAPS=\"runs/…\"" >&2; exit 2; }
	rm -rf runs/joined
	$(PY) -c 'import sys; from workbench.training.laps import join_laps; join_laps(sys.argv[1:], "runs/joined")' $(LAPS)
	rm -rf assets/models/shepherd-64 assets/training/shepherd-64
	mkdir -p assets/models
	$(PY) -c 'import sys; from workbench.training.shipping import ship_model, ship_run; \
	  ship_model(sys.argv[1] + "/model", "assets/models/shepherd-64", encoder="assets/models/mini-clip"); \
	  ship_run("runs/joined", "assets/training/shepherd-64", grids=$(GRIDS))' "$(RUN_TO_SHIP)"
	if [ -d "$(DEMO)/critics" ]; then rm -rf assets/models/critics-64; cp -r "$(DEMO)/critics" assets/models/critics-64; fi
	$(SAMPLES)

# The race's other lanes, where the app and the notebooks look for them; their histories without grids. RACE_LAPS:
# folders with a run of either, in the order of their laps; the last ones' models ship.
RACE_LAPS ?= $(DEMO)
ship-race: $(APP_READY)
	@for name in shepherd-64-diffusion shepherd-64-student; do
	  test -d "$(lastword $(RACE_LAPS))/$$name/model" || {
	    echo "error: $(lastword $(RACE_LAPS))/$$name is no finished run: make demo-models, or RACE_LAPS=\"runs/…\"" >&2; exit 2
	  }
	done
	rm -rf assets/models/shepherd-64-{diffusion,student}
	$(PY) -c 'import sys; from workbench.training.shipping import ship_history, ship_model; \
	  [(ship_model(f"{sys.argv[-1]}/{name}/model", f"assets/models/{name}", encoder="assets/models/mini-clip"), \
	    ship_history([f"{lap}/{name}" for lap in sys.argv[1:]], f"assets/training/{name}")) \
	   for name in ("shepherd-64-diffusion", "shepherd-64-student")]' $(RACE_LAPS)

# Every shipped number and picture of the shipped models, measured again: some two hours on two idle cores, the half of
# them for the race. What takes another environment is named and left alone.
reports: $(APP_READY)
	$(RUN) dataset world --out runs/world --count 16000 --seed 0
	rm -f runs/race/measured.json
	$(RUN) figures --run all --record
	$(RACE)
	$(REPORT)
	$(SAMPLES)
	$(README_TABLE)

# The table of figures in README, from assets/reports/figures.json. Not by a make within make: `make -n` runs those.
define README_TABLE
	$(PY) -c 'from pathlib import Path; from workbench.evaluation.figures import update_text; update_text(Path("README.md"))'
endef
readme: $(APP_READY)
	@$(README_TABLE)

constraints: $(DEV_READY)
	@$(PY) -m pip install -q --no-compile -c constraints.txt -e '.[dev,flux,aurasr,cluster,trackers]'
	$(PY) tests/house/requirements.py > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:
	@rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache *.egg-info build
	find workbench tests benchmarks notebooks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
