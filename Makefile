# `make demo` and `make test` each work alone on a fresh machine with Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
STAMP := $(VENV)/.setup-done
EXTRAS := test,lint,docs,dask,pictures,s3,train,torchmetrics
TEST_WORKERS ?= auto

.PHONY: setup demo test lint docs pictures api format bench package clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "make setup: $(PYTHON) is older than Python 3.11; name another: make setup PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

demo: setup
	$(VENV)/bin/avsrobust demo

test: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n $(TEST_WORKERS) --dist loadscope tests avsrobust model_adapters

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy --strict avsrobust model_adapters
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/repo-review --show err .

# Not --quiet: it hides warnings from --strict too.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

# docs/report.png and docs/gallery.png, from the demo's page; it needs Chromium.
pictures: demo
	$(VENV)/bin/python docs/_build/make_pictures.py avsrobust-demo/report.html

# The public API against that of the last release; it needs git and the history.
api: setup
	$(VENV)/bin/python .ci/api_diff.py

format: setup
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# benchmarks/RESULTS.md, in up to twelve minutes of a quiet machine with two cores.
bench: setup
	$(VENV)/bin/python benchmarks/run_all.py

package:
	PYTHON=$(PYTHON) .ci/package

clean:
	rm -rf $(VENV) build dist site avsrobust-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
