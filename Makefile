# `make app` and `make test` do all the set-up themselves; `make setup` does nothing the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501
WORKERS ?= 2
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: setup app quick test types unit browser test-all check format docs pictures wheel clean

setup: $(VENV)/.done

# Without a GPU the CPU build of torch is taken; where its index cannot be reached, whatever pip finds.
$(VENV)/.done: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@if ! command -v nvidia-smi >/dev/null 2>&1; then \
	  $(BIN)/python -m pip install --quiet --retries 1 --extra-index-url $(TORCH_CPU_INDEX) "torch==2.13.0+cpu" 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet "torch==2.13.0"; \
	fi
	$(BIN)/python -m pip install --quiet --editable ".[dev,docs,privacy,postgres,cluster]"
	touch $@

app: setup
	$(BIN)/workbench app --port $(PORT)

# The loop of a contributor: under a minute on two cores. Types are checked in what differs from main.
quick: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@files=$$( (git diff --name-only --diff-filter=d $$(git merge-base HEAD main 2>/dev/null || echo HEAD) -- workbench pages tests; \
	  git ls-files --others --exclude-standard -- workbench pages tests) | grep '\.py$$'); \
	if [ -n "$$files" ]; then echo "$(BIN)/pyright" $$files; $(BIN)/pyright $$files; fi
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m quick -n $(WORKERS) $$(grep -rl --include='test_*.py' 'mark\.quick' tests)

# The type checker runs beside the tests: it uses one core, and they wait for files and processes.
test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MAKE) --jobs 2 types unit
	$(MAKE) browser

types: setup
	$(BIN)/pyright

unit: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow and not browser" -n $(WORKERS) --dist loadfile

browser: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "browser and not slow" -n $(WORKERS) --dist loadfile

test-all: setup
	$(BIN)/pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The docs' pictures, taken anew from the real pages; look at them before you commit them.
pictures: setup
	WORKBENCH_PICTURES=1 $(BIN)/pytest tests/browser/test_pictures.py

wheel: setup
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist build site *.egg-info
