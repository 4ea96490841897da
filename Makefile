# Two targets do everything, on a machine that has Python 3.11 or newer and make:
#
#   make demo    collect, train, plan: the main job. Says where its report is
#   make test    style, types, spelling and the whole test suite
#
# Both set up .venv first and skip that when nothing changed. Another Python: make demo PYTHON=python3.12
# pip's own settings (PIP_INDEX_URL and the like) are respected.

PYTHON ?= python3
PIP = .venv/bin/python -m pip

.PHONY: demo test

demo: .venv/demo-is-ready
	.venv/bin/innerworld demo --out runs/demo

test: .venv/test-is-ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m pyright --pythonpath .venv/bin/python
	.venv/bin/codespell
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2

.venv/demo-is-ready: pyproject.toml constraints.txt | .venv
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt -e .
	touch $@

.venv/test-is-ready: pyproject.toml constraints.txt | .venv
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt -e ".[test]"
	touch $@ .venv/demo-is-ready

.venv:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
	  || { echo "innerworld needs Python 3.11 or newer, '$(PYTHON)' is not: make demo PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv \
	  || { rm -rf .venv; echo "could not make .venv: Debian and Ubuntu need the package python3-venv" >&2; exit 1; }
