# One command to run it, one to check it. Everything is installed into .venv, from the lock files, by hash.
#
#   make serve   the server on http://127.0.0.1:8000/mcp, with its own Postgres
#   make test    every test, on a real Postgres
#   make browser the report in a real Chromium (apt install chromium chromium-driver)
#   make pooler  isolation and restarts behind PgBouncer (apt install pgbouncer)
#   make interop foreign clients and the official conformance suite (needs npm, and the network the first time)
#   make check   lint, format, types, the shape of the house
#   make lock    write the lock files anew (newest versions that pyproject.toml allows)
#   make audit   an inventory of what is locked (SBOM), and the vulnerabilities known in it

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
AUDIT := .venv-audit
# -I: neither the caller's PYTHONPATH nor a file in this folder can shadow pip.
PIP := $(BIN)/python -I -m pip --disable-pip-version-check
INSTALL_LOCKED := $(PIP) install --quiet --require-hashes
INSTALL_PROJECT := $(PIP) install --quiet --no-index --no-build-isolation --no-deps --editable .
LOCK := $(BIN)/uv --no-config pip compile --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --quiet --upgrade

# The first Python on this machine that is new enough.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: serve test browser pooler interop check format lock audit clean

serve: $(VENV)/.installed
	@exec $(BIN)/tasktrail serve $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/pytest --numprocesses auto --dist worksteal $(ARGS)

browser: $(VENV)/.installed-dev
	$(BIN)/pytest -m browser $(ARGS)

pooler: $(VENV)/.installed-dev
	$(BIN)/pytest -m pooler $(ARGS)

interop: $(VENV)/.installed-dev
	$(BIN)/python -m interop $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit/test_house.py tests/unit/test_packaging.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# uv is used to write the locks, never to run anything: it is not a dependency of the project.
lock: $(VENV)/.created
	@$(PIP) install --quiet uv
	$(LOCK) pyproject.toml --group build --output-file requirements.lock
	$(LOCK) pyproject.toml --group dev --constraint requirements.lock --output-file requirements-dev.lock

# The tools are no dependencies: they are fetched when asked for, into an environment of their own.
# The inventory needs no network; what is known to be vulnerable is asked of pypi.org.
audit: $(AUDIT)/.installed
	@mkdir -p dist
	PYTHONWARNINGS=ignore $(AUDIT)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
		--output-reproducible --output-file dist/tasktrail.cdx.json
	$(AUDIT)/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock
	$(AUDIT)/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements-dev.lock

clean:
	rm -rf $(VENV) $(AUDIT) .interop build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Stamps: nothing is installed twice. The build backend is locked too, so the last step needs no network.
$(VENV)/.installed: $(VENV)/.created requirements.lock pyproject.toml
	$(INSTALL_LOCKED) --requirement requirements.lock
	$(INSTALL_PROJECT)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created requirements-dev.lock pyproject.toml
	$(INSTALL_LOCKED) --requirement requirements-dev.lock
	$(INSTALL_PROJECT)
	@touch $(VENV)/.installed $@

$(AUDIT)/.installed: $(VENV)/.created
	$(BIN)/python -m venv --clear --without-pip $(AUDIT)
	$(PIP) --python $(AUDIT)/bin/python install --quiet "pip-audit>=2.10" "cyclonedx-bom>=7.2"
	@touch $@

# Debian splits ensurepip off into python3-venv; without it, a pip that is there can bring another.
$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "Tasktrail needs Python 3.11 or newer." >&2; \
		echo "On Debian or Ubuntu: apt install python3-venv   (then run make again)" >&2; exit 1; }
	@if $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		$(PYTHON) -m venv --clear $(VENV); \
	elif $(PYTHON) -c 'import pip, venv' 2>/dev/null; then \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet --ignore-installed pip; \
	else \
		echo "$(PYTHON) cannot make virtual environments: it has neither ensurepip nor pip." >&2; \
		echo "On Debian or Ubuntu: apt install python3-venv   (then run make again)" >&2; exit 1; \
	fi
	@touch $@
