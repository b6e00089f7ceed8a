# `make demo` and `make test` set up everything themselves; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
# Of a training run: 0 is the shipped model's.
SEED ?= 0
bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check
constraints := -c constraints.txt
sources := pyproject.toml CMakeLists.txt README.md $(shell find src training bench/overhead -type f \( -name '*.py' -o -name '*.pyx' \
	-o -name '*.pxd' -o -name '*.pyi' -o -name '*.c' -o -name '*.h' -o -name CMakeLists.txt -o -name '*.onnx' \
	-o -name '*.json' -o -name '*.toml' -o -name '*.csv' -o -name '*.css' -o -name '*.js' \))

build_needs := scikit-build-core cython cython-cmake cmake ninja
run_needs := numpy onnxruntime 'tomli; python_version < "3.11"' rich blake3 xxhash pyarrow
test_needs := pytest pytest-benchmark hypothesis scipy onnx matplotlib gymnasium prometheus-client opentelemetry-sdk
# Only the CPU's build of torch: a bare "torch" would bring CUDA along.
agent_needs := stable-baselines3 tensorboard torch==2.13.0+cpu
lint_needs := ruff cython-lint mypy
# cpprb is the peer of the replay benchmarks.
bench_needs := cpprb

# Whom a model is held against.
rivals := $(addprefix --policy ,round_robin equal_split single_best size_interval least_completion_time \
	least_completion_time_proportional linucb oracle)

.PHONY: help demo test test-all lint bench bench-results bench-lab debug-test sanitize stress train wheel clean
help:
	@echo "make demo       move real files over four unequal streams, policies side by side"
	@echo "make test       linters, types and all tests"
	@echo "make test-all   build wheels and run all tests on Python 3.10 to 3.13"
	@echo "make bench      benchmarks against peers, as ratios, in one run"
	@echo "make bench-results  the same, kept in bench/results.md"
	@echo "make bench-lab WANLAB=DIR  the simulator against the real kernel (root; MEASURED=FILE: against that, no root)"
	@echo "make debug-test the core's tests with every Cython check on"
	@echo "make sanitize   all tests under the address and undefined-behaviour sanitizers, threads under the race detector"
	@echo "make stress     eight threads deciding, updating, reporting and swapping for a minute"
	@echo "make train      train the shipped model again, for both service orders, and evaluate it: runs/seed0 (or SEED=1 ...)"
	@echo "make lint       ruff, cython-lint, mypy --strict, stubtest"
	@echo "make wheel      a wheel in dist/"
	@echo "make clean      remove everything made here"

demo: $(VENV)/.installed
	@$(bin)/itp demo

test: lint $(VENV)/.installed $(VENV)/.test
	@echo "--- tests"
	@$(bin)/python -m pytest -q

lint: $(VENV)/.installed $(VENV)/.test
	@echo "--- ruff, cython-lint, mypy, stubtest"
	@$(bin)/ruff check --quiet .
	@$(bin)/ruff format --check --quiet .
	@PATH="$(CURDIR)/$(bin):$$PATH" $(bin)/cython-lint src
	@$(bin)/mypy --no-error-summary
	@$(bin)/python tools/stubtest.py

bench: $(VENV)/.installed $(VENV)/.test $(VENV)/.bench
	@$(bin)/python -m pytest bench -q --benchmark-columns=min,median,iqr,rounds --benchmark-json=build/bench.json

bench-results: $(VENV)/.installed $(VENV)/.test $(VENV)/.bench
	@$(bin)/python -m pytest bench -q --benchmark-columns=min,median,iqr,rounds --ratios bench/results.md

bench-lab: $(VENV)/.installed
	@$(bin)/python bench/lab/compare.py $(if $(WANLAB),--wanlab $(WANLAB)) \
		$(if $(MEASURED),--measured $(MEASURED)) --results bench/lab/results.md

stress: $(VENV)/.installed $(VENV)/.test
	@ITP_STRESS_S=60 $(bin)/python -m pytest -q tests/core/test_fast_path.py -k eight_threads

train: $(VENV)/.installed $(VENV)/.test
	@$(bin)/itp train --service-order fifo --seed $(SEED) --out runs/fifo-seed$(SEED) --name dqn_v1
	@$(bin)/itp train --service-order srpt --seed $(SEED) --out runs/srpt-seed$(SEED) --name dqn_v1
	@mkdir -p runs/seed$(SEED) && cp runs/fifo-seed$(SEED)/dqn_v1.* runs/srpt-seed$(SEED)/dqn_v1-srpt.* runs/seed$(SEED)
	@$(bin)/itp evaluate --policy runs/seed$(SEED)/dqn_v1.onnx $(rivals) --markdown runs/seed$(SEED)/evaluation.md

debug-test: $(VENV)/.test
	@echo "--- building with every Cython check on, in $(VENV)-debug"
	@test -d $(VENV)-debug || $(PYTHON) -m venv $(VENV)-debug
	@$(VENV)-debug/bin/python -m pip --disable-pip-version-check install -q $(constraints) $(build_needs) $(run_needs) $(test_needs)
	@$(VENV)-debug/bin/python -m pip --disable-pip-version-check install -q --no-build-isolation --no-deps \
		-C build-dir=build/debug -C cmake.define.ITP_DEBUG=ON .
	@$(VENV)-debug/bin/python -m pytest -q -m core

sanitize: $(VENV)/.test
	@PYTHON=$(PYTHON) sh tools/sanitize.sh

test-all:
	@sh tools/test-all.sh

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

$(VENV)/.build: $(VENV)/.python constraints.txt
	@echo "--- build tools"
	@$(pip) install -q $(constraints) $(build_needs)
	@touch $@

$(VENV)/.run: $(VENV)/.build
	@echo "--- run-time packages"
	@$(pip) install -q $(constraints) $(run_needs)
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo "--- test packages"
	@$(pip) install -q $(constraints) $(test_needs) $(lint_needs)
	@$(pip) install -q $(constraints) $(agent_needs) 2>/dev/null || \
		echo "make: no $(lastword $(agent_needs)) for this Python (PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu" \
			"has it for most): the check of Stable-Baselines3 is skipped"
	@touch $@

$(VENV)/.bench: $(VENV)/.run
	@echo "--- peers of the benchmarks"
	@$(pip) install -q $(constraints) $(bench_needs)
	@touch $@

$(VENV)/.installed: $(VENV)/.run $(sources)
	@echo "--- compiled core and package"
	@$(pip) install -q --no-build-isolation --no-deps .
	@touch $@
