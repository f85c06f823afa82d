# Two commands for users: `make demo`, `make test`. Both make .venv and install what they need on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-full bench check lint types wheel clean

demo: $(STAMP)
	$(BIN)/segkd demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-full: $(STAMP)
	SEGKD_RECORD=1 $(BIN)/python -m pytest -m "not alone"

bench: $(STAMP)
	$(BIN)/python tests/textbook/bench.py

check: lint types test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

wheel: $(STAMP)
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

# pyproject.toml gives lower bounds; constraints.txt is the set that was tested.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "segkd needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
