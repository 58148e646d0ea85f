# `make demo` shows it, `make test` tests it. Both need only Python 3.11 and make; what else they use is said.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
TESTS  ?= tests

.PHONY: demo test crash bench lint format diagrams docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	@PATH="$(abspath $(BIN)):$$PATH" examples/demo

test: $(VENV)/developed
	$(BIN)/pytest -n auto $(TESTS)

# the whole proof of docs/reliability.md; some minutes, as root
crash: $(VENV)/developed
	PYTHONPATH=tests $(BIN)/python -m crash --into docs/reliability.md

# all of docs/performance.md, its plots too; some twenty-five minutes, as root. QUICK=1 only shows that it runs
bench: $(VENV)/developed
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(if $(QUICK),--quick,--into docs)

lint: $(VENV)/developed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/developed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

diagrams: $(VENV)/developed
	$(BIN)/python -m lifecycle.diagrams diagrams

docs: $(VENV)/developed
	$(BIN)/python docs/write_commands.py
	$(BIN)/python docs/write_manual.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/installed: pyproject.toml
	@PYTHON="$(PYTHON)" .ci/make-venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/developed: $(VENV)/installed
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --group dev
	@touch $@
