#!/bin/sh
# Build a wheel for every Python from 3.10 to 3.13, install it in a fresh environment without torch and without
# build tools, and run all tests there. The tests of the trainer are skipped: `make test` runs them.
set -eu
cd "$(dirname "$0")/.."
failed=""
for version in 3.10 3.11 3.12 3.13; do
    echo "--- Python $version"
    python=$(sh tools/find-python.sh "$version") || { failed="$failed $version"; continue; }
    builder=.venvs/build-$version venv=.venvs/$version
    rm -rf "$builder" "$venv" "dist/$version"
    "$python" -m venv "$builder"
    "$builder/bin/python" tools/install.py build
    "$builder/bin/python" -m pip --disable-pip-version-check wheel -q --no-build-isolation --no-deps -w "dist/$version" .
    rm -rf "$builder"
    "$python" -m venv "$venv"
    "$venv/bin/python" tools/install.py test
    "$venv/bin/python" -m pip --disable-pip-version-check install -q --no-deps "dist/$version"/itp-*.whl
    if "$venv/bin/python" -c "import torch" 2>/dev/null; then
        echo "torch is installed, and should not be"; failed="$failed $version"; continue
    fi
    "$venv/bin/python" -m pip --disable-pip-version-check check || { failed="$failed $version"; continue; }
    "$venv/bin/python" -m pytest -q || failed="$failed $version"
done
if [ -n "$failed" ]; then
    echo "failed:$failed"
    exit 1
fi
echo "all tests pass on Python 3.10, 3.11, 3.12 and 3.13"
