# Everything runs from .venv in this checkout, made on first use; `make` alone lists the targets.
#
#   make demo PYTHON=python3.12            another interpreter (3.11 or newer)
#   make demo TORCH='torch==2.12.*'        another torch than the pinned one; give it on every call
#   make test ARGS='-k linear'             more arguments for pytest
#
# pip is used as it is configured for you: index, proxy and wheel folders are your own settings.

VENV := .venv
BIN := $(VENV)/bin
TORCH ?=
ARGS ?=
WORKERS ?= 2
# A worker begins with its own part of the files, whose fixtures and programs are made once
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=15

# The first interpreter that will do; where there is none, the check below says what is wrong with python3.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$p && break; done)
BASE = $(or $(PYTHON),python3)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all bench lint clean FORCE
FORCE:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target text; \
	do printf '%-18s %s\n' "$$target" "$$text"; done

demo: $(VENV)/.demo ## train in torch, convert, certify, carry on in Flax and go back; report in out/
	$(BIN)/python examples/demo.py $(ARGS)

test: $(VENV)/.test ## the whole test suite
	$(PYTEST) $(ARGS)

test-all: $(VENV)/.test ## the suite with every sample instead of a subset; long
	$(PYTEST) --samples=all $(ARGS)
	$(BIN)/python -m parity_tests.db.coverage docs/coverage.md
	$(BIN)/python -m parity_tests.porter.operators docs/porter-operators.md

bench: $(VENV)/.bench ## fluxmod against torch eager, torch.compile and plain nnx
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(VENV)/.lint ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean: ## remove .venv and everything else that these targets made
	rm -rf $(VENV) .cache out build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

CHECK_FOUND = $(BASE) -c 'import sys' >/dev/null 2>&1
CHECK_VERSION = $(BASE) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
CHECK_VENV = $(BASE) -c 'import venv, ensurepip' >/dev/null 2>&1
ASK = or name one: make PYTHON=/path/to/python3.11 $(firstword $(MAKECMDGOALS))

# Looked at again when an interpreter is named or .venv does not start; rewritten only when it changed.
$(VENV)/.python: $(if $(and $(filter file,$(origin PYTHON)),$(wildcard $(BIN)/python)),,FORCE)
	@$(CHECK_FOUND) || { echo "fluxmod needs Python 3.11 or newer, and no $(BASE) runs here." \
		"Install Python, $(ASK)" >&2; exit 1; }
	@$(CHECK_VERSION) || { echo "fluxmod needs Python 3.11 or newer, and $(BASE) is" \
		"$$($(BASE) --version 2>&1 | head -n 1). Install a newer one, $(ASK)" >&2; exit 1; }
	@$(CHECK_VENV) || { echo "$(BASE) lacks its venv or ensurepip module. Install it" \
		"(Debian, Ubuntu: apt install python3-venv), $(ASK)" >&2; exit 1; }
	@version=$$($(BASE) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	test -x $(BIN)/python && test "$$(cat $@ 2>/dev/null)" = "$$version" || { \
		echo "making $(VENV) with $(BASE) ($$version)"; \
		$(BASE) -m venv $$(test -f $@ && echo --clear) $(VENV) && echo "$$version" > $@; }

# What TORCH was at the last install; rewritten, and so everything installed again, only when it changed.
$(VENV)/.torch: $(VENV)/.python FORCE
	@test -f $@ && test "$$(cat $@)" = '$(TORCH)' || echo '$(TORCH)' > $@

$(VENV)/.demo: EXTRAS := torch,data
$(VENV)/.test: EXTRAS := test
$(VENV)/.bench: EXTRAS := bench
$(VENV)/.lint: EXTRAS := torch,data,dev

PINS = $(if $(TORCH),$(VENV)/constraints.txt,constraints.txt)

# One stamp for each set of packages, written after pip has succeeded and only then.
$(VENV)/.demo $(VENV)/.test $(VENV)/.bench $(VENV)/.lint: pyproject.toml constraints.txt $(VENV)/.torch
	@rm -f $@
	@$(if $(TORCH),sed '/^torch==/d' constraints.txt > $(PINS),:)
	$(BIN)/python -m pip install -c $(PINS) $(if $(TORCH),'$(TORCH)') -e '.[$(EXTRAS)]'
	@touch $@
