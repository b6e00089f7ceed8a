# `make demo` and `make test` set up everything themselves; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
# `no` leaves PyTorch out, and with it the tests of the trainer.
TORCH ?= yes
# Of a training run: 0 is the shipped model's.
SEED ?= 0
bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check
# The lists of packages are pyproject.toml's, their versions constraints.txt's.
install := tools/install.py
lists := $(install) pyproject.toml constraints.txt
sources := pyproject.toml CMakeLists.txt README.md $(shell find src training bench/overhead -type f \( -name '*.py' -o -name '*.pyx' \
	-o -name '*.pxd' -o -name '*.pyi' -o -name '*.c' -o -name '*.h' -o -name CMakeLists.txt -o -name '*.onnx' \
	-o -name '*.json' -o -name '*.toml' -o -name '*.csv' -o -name '*.css' -o -name '*.js' \))
ifeq ($(filter $(TORCH),yes no),)
$(error TORCH is '$(TORCH)': expected yes or no)
endif
trainer := $(if $(filter yes,$(TORCH)),$(VENV)/.trainer)

# Whom a model is held against.
rivals := $(addprefix --policy ,round_robin equal_split single_best size_interval least_completion_time \
	least_completion_time_proportional linucb oracle)

.PHONY: help demo dev test test-all test-oldest lint bench bench-results bench-lab check-figures debug-test sanitize \
	stress train wheel clean try-trainer
help:
	@echo "make demo       move real files over four unequal streams, policies side by side"
	@echo "make dev        install the sources in place: changes in Python and in resources take effect at once"
	@echo "make test       linters, types and all tests (TORCH=no: without PyTorch and the tests of the trainer)"
	@echo "make test-all   build wheels and run all tests on Python 3.10 to 3.13"
	@echo "make test-oldest  run all tests with the lowest versions that pyproject.toml allows"
	@echo "make bench      benchmarks against peers, as ratios, in one run"
	@echo "make bench-results  the same, kept in bench/results.md"
	@echo "make bench-lab WANLAB=DIR  the simulator against the real kernel (root; MEASURED=FILE: against that, no root)"
	@echo "make check-figures  measure every figure that is promised, and whether it holds"
	@echo "make debug-test the core's tests with every Cython check on"
	@echo "make sanitize   all tests under the address and undefined-behaviour sanitizers, threads under the race detector"
	@echo "make stress     eight threads deciding, updating, reporting and swapping for a minute"
	@echo "make train      train the shipped model again, for both service orders, and evaluate it: runs/seed0 (or SEED=1 ...)"
	@echo "make lint       ruff, cython-lint, mypy --strict, stubtest"
	@echo "make wheel      a wheel in dist/"
	@echo "make clean      remove everything made here"

demo: $(VENV)/.installed
	@$(bin)/itp demo

dev: $(VENV)/.run
	@echo "--- compiled core, and the package in place"
	@touch $(VENV)/.editable
	@$(pip) install -q --no-build-isolation --no-deps --editable .
	@touch $(VENV)/.installed

test: $(VENV)/.installed $(VENV)/.test try-trainer
	$(check-code)
	@echo "--- tests"
	@$(bin)/python -m pytest -q
	$(check-trainer)

lint: $(VENV)/.installed $(VENV)/.test try-trainer
	$(check-code)
	$(check-trainer)

define check-code
@echo "--- ruff, cython-lint, mypy, stubtest"
@$(bin)/ruff check --quiet .
@$(bin)/ruff format --check --quiet .
@PATH="$(CURDIR)/$(bin):$$PATH" $(bin)/cython-lint src
@$(bin)/mypy --no-error-summary $$(test -e $(VENV)/.trainer || echo src)
@$(bin)/python tools/stubtest.py
endef

# Without PyTorch everything else is checked, and this says so and fails at the end, unless TORCH=no asked for it.
define check-trainer
@if [ -e $(VENV)/.trainer ]; then :; elif [ $(TORCH) = no ]; then \
	echo "make: TORCH=no: the types and the tests of the trainer were left out"; \
else \
	echo "make: FAILED: the trainer was not checked: its packages could not be installed (see above)." >&2; \
	echo "  Name an index that has PyTorch in PIP_EXTRA_INDEX_URL, or leave it out: make test TORCH=no" >&2; exit 1; fi
endef

bench: $(VENV)/.installed $(VENV)/.test $(trainer) $(VENV)/.bench
	@$(bin)/python -m pytest bench -q --benchmark-columns=min,median,iqr,rounds --benchmark-json=build/bench.json

bench-results: $(VENV)/.installed $(VENV)/.test $(trainer) $(VENV)/.bench
	@$(bin)/python -m pytest bench -q --benchmark-columns=min,median,iqr,rounds --ratios bench/results.md

bench-lab: $(VENV)/.installed
	@$(bin)/python bench/lab/compare.py $(if $(WANLAB),--wanlab $(WANLAB)) \
		$(if $(MEASURED),--measured $(MEASURED)) --results bench/lab/results.md

check-figures: $(VENV)/.installed $(VENV)/.test $(VENV)/.trainer $(VENV)/.bench
	@$(bin)/python bench/check.py --all

stress: $(VENV)/.installed $(VENV)/.test
	@ITP_STRESS_S=60 $(bin)/python -m pytest -q tests/core/test_fast_path.py -k eight_threads

train: $(VENV)/.installed $(VENV)/.trainer
	@$(bin)/itp train --service-order fifo --seed $(SEED) --out runs/fifo-seed$(SEED) --name dqn_v1
	@$(bin)/itp train --service-order srpt --seed $(SEED) --out runs/srpt-seed$(SEED) --name dqn_v1
	@mkdir -p runs/seed$(SEED) && cp runs/fifo-seed$(SEED)/dqn_v1.* runs/srpt-seed$(SEED)/dqn_v1-srpt.* runs/seed$(SEED)
	@$(bin)/itp evaluate --policy runs/seed$(SEED)/dqn_v1.onnx $(rivals) --markdown runs/seed$(SEED)/evaluation.md

debug-test: $(VENV)/.python
	@echo "--- building with every Cython check on, in $(VENV)-debug"
	@test -d $(VENV)-debug || $(PYTHON) -m venv $(VENV)-debug
	@$(VENV)-debug/bin/python $(install) build test
	@$(VENV)-debug/bin/python -m pip --disable-pip-version-check install -q --no-build-isolation --no-deps \
		--config-settings=build-dir=build/debug --config-settings=cmake.define.ITP_DEBUG=ON .
	@$(VENV)-debug/bin/python -m pytest -q -m core

sanitize: $(VENV)/.python
	@PYTHON=$(PYTHON) sh tools/sanitize.sh

test-all:
	@sh tools/test-all.sh

test-oldest:
	@TORCH=$(TORCH) sh tools/test-oldest.sh

wheel: $(VENV)/.build
	@$(pip) wheel -q --no-build-isolation --no-deps -w dist .
	@ls dist

clean:
	rm -rf build dist .venv .venv-debug .venv-address .venv-thread .venvs .pytest_cache .hypothesis .mypy_cache .ruff_cache

# --- set-up, each step once ---

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "make: no '$(PYTHON)' found: install Python 3.10 to 3.13, or name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || { \
		echo "make: '$(PYTHON)' is $$($(PYTHON) --version 2>&1); ITP needs Python 3.10 to 3.13: make PYTHON=python3.12 ..." >&2; exit 1; }
	@command -v $${CC:-cc} >/dev/null 2>&1 || { \
		echo "make: no C compiler '$${CC:-cc}' found: install gcc or clang (Debian: apt-get install gcc libc6-dev), or set CC" >&2; exit 1; }
	@echo "--- virtual environment in $(VENV) ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv $(VENV) || { \
		echo "make: '$(PYTHON) -m venv' failed: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@touch $@

$(VENV)/.build: $(VENV)/.python $(lists)
	@echo "--- build tools"
	@$(bin)/python $(install) build
	@touch $@

$(VENV)/.run: $(VENV)/.build
	@echo "--- run-time packages"
	@$(bin)/python $(install) 'itp[cli,transport]'
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo "--- test packages"
	@$(bin)/python $(install) test lint
	@touch $@

try-trainer: $(VENV)/.test
	@$(if $(trainer),$(MAKE) -s $(trainer) || true)

# The stamp never outlives a failure.
$(VENV)/.trainer: $(VENV)/.test
	@echo "--- PyTorch and the trainer's packages"
	@rm -f $@
	@$(bin)/python $(install) trainer
	@touch $@

$(VENV)/.bench: $(VENV)/.run
	@echo "--- peers of the benchmarks"
	@$(bin)/python $(install) bench
	@touch $@

$(VENV)/.installed: $(VENV)/.run $(sources)
	@echo "--- compiled core and package"
	@$(pip) install -q --no-build-isolation --no-deps $(if $(wildcard $(VENV)/.editable),--editable) .
	@touch $@
