# The one door: `make demo` shows it working, `make test` proves it. Both need nothing but Python 3.11 and a package index.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
LOCK ?= requirements/cpu.txt
PYTORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
STAMP := $(VENV)/installed
WORKERS ?= 2

.PHONY: demo up test test-slow lint format types demo-models help clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 22

demo: $(STAMP)  ## Install what is missing, then run the whole pipeline on the demo models (two to five minutes)
	$(BIN)/ratify demo

up: $(STAMP)  ## Start the scheduler and its page, a worker and the deployments (`ratify down` ends them)
	$(BIN)/ratify up

test: $(STAMP)  ## Install what is missing, then run the tests (under ten minutes on two cores)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow"

test-slow: $(STAMP)  ## The tests of whole services: schedules, cancellations, lost servers, kills (some minutes more)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m slow

lint: $(STAMP)  ## Style (ruff) and types (mypy --strict)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo-models: $(STAMP)  ## Train the demo's policy and judge again, from nothing (about half an hour)
	$(BIN)/python -m demo.make_models

clean:  ## Remove the environment and all runs
	rm -rf $(VENV) runs

# The CPU build of torch comes first: where the index has none, PyTorch's own CPU index does.
$(STAMP): $(LOCK) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies ($(LOCK)); this takes some minutes the first time"
	@grep -E '^torch==' $(LOCK) > $(VENV)/torch.txt
	$(BIN)/python -m pip install --quiet --no-deps -r $(VENV)/torch.txt \
	  || $(BIN)/python -m pip install --quiet --no-deps --index-url $(PYTORCH_CPU_INDEX) -r $(VENV)/torch.txt
	$(BIN)/python -m pip install --quiet --no-deps -r $(LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(STAMP)
