#!/bin/sh
# Install the lowest versions that pyproject.toml allows on the lowest Python, build tools included, and run all
# tests there. TORCH=no leaves PyTorch out: the tests of the trainer are then skipped.
set -eu
cd "$(dirname "$0")/.."
python=$(sh tools/find-python.sh 3.10)
venv=.venvs/oldest
rm -rf "$venv" build/oldest
"$python" -m venv "$venv"
echo "--- lowest versions, on $("$python" --version)"
trainer=trainer
[ "${TORCH:-yes}" != no ] || trainer=""
"$venv/bin/python" tools/install.py --oldest build test $trainer
echo "--- compiled core and package"
"$venv/bin/python" -m pip --disable-pip-version-check install -q --no-build-isolation --no-deps \
    --config-settings=build-dir=build/oldest .
"$venv/bin/python" -m pip --disable-pip-version-check check
echo "--- tests"
"$venv/bin/python" -m pytest -q "$@"
