PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow lint skills reference clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)  ## The main job, end to end, on the real model.
	$(BIN)/tenure demo

test: $(STAMP)  ## Every test that needs no real model: under two minutes on two cores.
	$(BIN)/pytest

test-slow: $(STAMP)  ## Checks on the real model.
	$(BIN)/pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench-%: $(STAMP)  ## bench-loop, -engine, -ledger, -crash, -retrieval, -rehearsal: one JSON object as the last line.
	$(BIN)/tenure bench $*

skills: $(STAMP)  ## Teach the default base its skills anew (hours on two cores; minutes with --device cuda) and keep them in the package.
	$(BIN)/python -m tenure.modules.teaching smollm2-135m

reference: $(STAMP)  ## Write docs/reference.md from the code.
	$(BIN)/python -m tenure.cli.reference > docs/reference.md

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
