# The two commands: `make demo` and `make test`. Each makes .venv first, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is never imported needs no bytecode; what is imported is compiled once, not in each of the tests' processes.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: demo test lint clean

$(VENV)/.demo: setup.cfg setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -e .
	touch $@

# medmnist's own evaluator is an oracle of the tests; its other needs (torch) are not.
$(VENV)/.test: $(VENV)/.demo
	$(BIN)/python $(INSTALL) -e '.[test]'
	$(BIN)/python $(INSTALL) --no-deps 'medmnist==3.0.2'
	touch $@

demo: $(VENV)/.demo
	$(BIN)/medkeras demo

test: $(VENV)/.test lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

# deptry reads no setup.cfg: this is what the installed package declares, extras included.
$(VENV)/requirements.txt: $(VENV)/.test
	$(BIN)/python -c "import importlib.metadata as m; print(*m.requires('medkeras'), sep='\n')" > $@

lint: $(VENV)/requirements.txt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/deptry . --requirements-files $(VENV)/requirements.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
