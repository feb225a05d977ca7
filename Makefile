# Everything happens inside this folder, in .venv and .servers, with one exception: `servers`, and so `test`, installs
# missing Debian packages when it runs as root.

PYTHON ?= python3
JOBS ?= 4
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH ?= *

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --no-input --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
STRUCTURE := tests/test_import_direction.py tests/test_packaging.py
DOCS := tests/test_docs.py tests/test_api.py $(wildcard tests/test_notebooks.py)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test check lint types structure docs wheel bench bench-quality soak pictures mutants audit lowest api servers clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12          which Python .venv is made with"
	@echo "  PYTEST_ARGS='-k kill'      what 'make test' runs (everything), on JOBS=4 processes"
	@echo "  DEMO_ARGS='--help'         what 'make demo' passes on"
	@echo "  BENCH=bench_prometheus     which of tests/benchmarks 'make bench' runs (all of them)"

demo: .venv/.runtime ## Set up, and watch a simulated release go wrong, end to end
	@$(BIN)/watcher demo $(DEMO_ARGS)

test: servers .venv/.development ## Set up, and run every test
	@$(PYTEST) -n $(JOBS) --dist loadgroup -r s $(PYTEST_ARGS)

check: lint types structure docs wheel ## Set up, and check style, types, imports, documentation and the wheel

lint: .venv/.development
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/.development
	@$(BIN)/mypy --strict watcher

structure: .venv/.development
	@$(PYTEST) $(STRUCTURE)

docs: .venv/.development
	@$(PYTEST) $(DOCS)

wheel: .venv/.development
	@bash scripts/wheel_check.sh $(BIN)/python

api: .venv/.development ## Write the documentation of the Python API as HTML: build/api/index.html
	@PYTHONPATH=. $(BIN)/python scripts/api.py build/api

bench: .venv/.development ## Run the benchmarks, one after another
	@set -e; for script in $(filter-out %/bench_quality.py,$(sort $(wildcard tests/benchmarks/$(BENCH).py))); do \
	    echo "== $$script"; PYTHONPATH=. $(BIN)/python "$$script"; done

bench-quality: .venv/.development ## How good the defaults are: on DATA, a folder of past releases, and on simulations
	@PYTHONPATH=. $(BIN)/python tests/benchmarks/bench_quality.py $(if $(DATA),--data $(DATA))

soak: servers .venv/.development ## Run what takes too long for every change, one after another: about an hour
	@set -e; for script in $(sort $(wildcard tests/soak/*.py)); do \
	    echo "== $$script"; PYTHONPATH=. $(BIN)/python "$$script"; done

audit: .venv/.development .audit/.created ## Ask whether anything that is installed has a known vulnerability
	@$(BIN)/python scripts/audit.py .audit/bin/pip-audit "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

lowest: ## Run the tests on the oldest versions of what watcher depends on: three minutes
	@bash scripts/lowest.sh $(PYTHON)

pictures: servers .venv/.development ## Make the pictures of the README, and of every face into build/pictures
	@$(BIN)/python scripts/pictures.py

mutants: .venv/.development ## Change the policy in every small way, and show what no test notices: a quarter of an hour
	@bash scripts/mutants.sh

servers: ## Install the servers that tests talk to, where they are missing (npm; as root also apt)
	@bash scripts/servers.sh

clean: ## Remove .venv, .servers and everything else that was built
	@rm -rf .venv .servers .mutants .audit .lowest build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find watcher tests scripts -type d -name __pycache__ -prune -exec rm -rf {} +

# A stamp is touched when its step has succeeded, so an interrupted step is done again.

.venv/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "watcher needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { \
	    echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	@touch $@

# Apart from what is audited, so that it is not audited itself.
.audit/.created:
	@$(PYTHON) -m venv .audit
	@if .audit/bin/python -m pip --quiet --no-input --disable-pip-version-check install 'pip-audit==2.*'; then touch $@; \
	    else echo "audit: pip-audit cannot be installed from here" >&2; fi

.venv/.runtime: pyproject.toml .venv/.created
	@echo "Setting up .venv; the first time takes a minute" >&2
	@$(PIP) install --editable .
	@touch $@

# `pip install --group` came with pip 25.1, and Python 3.11 and 3.12 bring an older one.
.venv/.development: pyproject.toml .venv/.created
	@echo "Setting up .venv with the tools for tests; the first time takes a minute or two" >&2
	@$(BIN)/python -c 'import pip; raise SystemExit([int(n) for n in pip.__version__.split(".")[:2]] < [25, 1])' \
	    || $(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable '.[all]' --group dev
	@touch .venv/.runtime $@
