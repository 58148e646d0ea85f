# `make demo` shows it, `make test` tests it. Both set up what they need: as root on Debian or Ubuntu all of it.
VENV   ?= .venv
PYTHON ?=
SUITES ?= bookworm trixie
BIN    := $(VENV)/bin
TESTS  ?= tests
# pip and the tests keep what they fetch below it
HOME   ?= $(abspath $(VENV))
export HOME

.PHONY: demo test check fresh crash bench lint format diagrams docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	@.ci/install-missing mount xfsprogs
	@PATH="$(abspath $(BIN)):$$PATH" examples/demo

test: $(VENV)/developed
	@xargs .ci/install-missing <.ci/packages
	$(BIN)/pytest -n auto $(TESTS)

# what is quick: style, types, the rules of imports, and the tests that need no file system and no package of their own
check: lint
	$(BIN)/pytest -n auto -q -m "not mounts" --ignore tests/project/test_setting_up.py $(TESTS)

# `make demo` and `make test`, in bare installations of Debian that are made for it and go with it; as root, half an hour
fresh:
	TESTS="$(TESTS)" .ci/fresh $(SUITES)

# the whole proof of docs/reliability.md; some minutes, as root
crash: $(VENV)/developed
	PYTHONPATH=tests $(BIN)/python -m crash --into docs/reliability.md

# all of docs/performance.md, its plots too; some twenty-five minutes, as root. QUICK=1 only shows that it runs
bench: $(VENV)/developed
	env -u PYTHONDONTWRITEBYTECODE PYTHONPATH=tests $(BIN)/python -m benchmarks $(if $(QUICK),--quick,--into docs)

lint: $(VENV)/developed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/developed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

diagrams: $(VENV)/developed
	$(BIN)/python -m lifecycle.report.diagrams diagrams
	$(BIN)/python docs/rooms_picture.py

docs: $(VENV)/developed
	$(BIN)/python docs/write_commands.py
	$(BIN)/python docs/write_manual.py
	$(BIN)/python docs/write_architecture.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/installed: pyproject.toml
	@PYTHON="$(PYTHON)" .ci/make-venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/developed: $(VENV)/installed
	$(BIN)/pip install --quiet "pip>=25.1"
	$(BIN)/pip install --quiet --group dev
	@touch $@
