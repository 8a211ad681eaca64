# `make check`: lint, layout and types, as .ci/run runs them. The tests: `python launch.py test`.
PYTHON := $(shell test -x .venv/bin/python && echo .venv/bin/python || echo python)

.PHONY: check format
check:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
