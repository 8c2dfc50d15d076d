# make demo   a first table, from nothing     make test   everything that must hold
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types unit test-slow bench install install-test board grid clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test]'
	touch $@

install: $(VENV)/.installed

install-test: $(VENV)/.installed-test

demo: install
	$(BIN)/lt-bench run configs/digits_lt/breadcrumb_strong.py --work-dir work_dirs/demo --records work_dirs/demo/records

test: lint types unit

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install-test
	$(BIN)/mypy

unit: install-test
	$(BIN)/python -m pytest -m "not slow and not benchmark_suite"

# Minutes: kills at many points, the wheel in an environment of its own.
test-slow: install-test
	$(BIN)/python -m pytest -m slow --timeout 3600

# Ratios, each measured side by side in one run. LT_BENCH_FULL=1 takes the published sizes.
bench: install-test
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only -m benchmark_suite --timeout 3600

# Beside the committed records, which a run would find, and then train nothing.
NEW = --work-dir work_dirs/board --records work_dirs/board/records

# The boards of digits_lt, from nothing: every method, five seeds.
board: install
	$(BIN)/lt-bench run $(sort $(wildcard configs/digits_lt/*.py configs/digits_lt_shifts/*.py)) --seeds 0 1 2 3 4 $(NEW)
	$(BIN)/lt-bench table digits_lt digits_lt_shifts --records work_dirs/board/records --out work_dirs/board

# Every loss with every classifier on digits_lt, five seeds.
grid: install
	$(BIN)/lt-bench run $(shell grep -o 'digits_lt/[a-z_+]*' lt_bench/leaderboard/specs/digits_lt_grid.json | sort -u) --seeds 0 1 2 3 4 $(NEW)
	$(BIN)/lt-bench table digits_lt_grid --records work_dirs/board/records --out work_dirs/board

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .benchmarks
