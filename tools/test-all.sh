#!/bin/sh
# Build a wheel for every Python from 3.10 to 3.13, install it in a fresh environment without torch,
# and run all tests there. Pythons are looked up on PATH and under pyenv; a missing one fails.
set -eu
cd "$(dirname "$0")/.."
failed=""
for version in 3.10 3.11 3.12 3.13; do
    python=""
    for candidate in "$(command -v "python$version" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
        if [ -x "$candidate" ] && "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "--- Python $version: not found (install it, or put python$version on PATH)"
        failed="$failed $version"
        continue
    fi
    echo "--- Python $version: $python"
    venv=.venvs/$version
    rm -rf "$venv"
    "$python" -m venv "$venv"
    pip="$venv/bin/python -m pip --disable-pip-version-check"
    $pip install -q -c constraints.txt scikit-build-core cython cython-cmake cmake ninja
    rm -rf "dist/$version"
    $pip wheel -q --no-build-isolation --no-deps -w "dist/$version" .
    $pip uninstall -q -y scikit-build-core cython cython-cmake cmake ninja
    $pip install -q -c constraints.txt "dist/$version"/itp-*.whl rich blake3 xxhash pyarrow \
        pytest hypothesis scipy onnx matplotlib gymnasium prometheus-client opentelemetry-sdk
    if "$venv/bin/python" -c "import torch" 2>/dev/null; then
        echo "torch is installed, and should not be"; failed="$failed $version"; continue
    fi
    "$venv/bin/python" -m pytest -q || failed="$failed $version"
done
if [ -n "$failed" ]; then
    echo "failed:$failed"
    exit 1
fi
echo "all tests pass on Python 3.10, 3.11, 3.12 and 3.13"
