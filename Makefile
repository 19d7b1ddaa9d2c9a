# make demo   the whole path on this machine, no keys, no network
# make test   every test, in its own environment
# make check  lint, types, import rules
# make bench  cost of engine, SDK, router and trace writer as ratios; writes docs/performance.md
# make fuzz   coverage-guided fuzzing of the parsers (its own environment)
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
VENV := .venv
DEMO := .venv-demo
RUN := $(VENV)/bin/python
PYTEST_ARGS ?=
# every engine that a test starts would otherwise compile the sources anew: seconds each
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check bench fuzz clean
.DELETE_ON_ERROR:

# a bare Debian lacks ensurepip: as root its package is installed, otherwise the command is named
define make_venv
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -m venv $(1) 2>/dev/null || { rm -rf $(1); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv $(1); \
	  else echo "venv is missing: apt-get install python3-venv"; exit 1; fi; }
endef

$(DEMO)/.done: pyproject.toml
	$(call make_venv,$(DEMO))
	$(DEMO)/bin/pip -q install --disable-pip-version-check -e '.[engine]'
	@touch $@

$(VENV)/.done: pyproject.toml
	$(call make_venv,$(VENV))
	$(RUN) -m pip -q install --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(DEMO)/.done
	@$(DEMO)/bin/python examples/demo.py

test: $(VENV)/.done
	$(RUN) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/.done
	$(VENV)/bin/ruff check src tests examples scripts benchmarks
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/.done
	$(RUN) -m benchmarks

fuzz: $(VENV)/.done
	$(RUN) tests/fuzz/run.py

clean:
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
