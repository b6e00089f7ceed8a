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
# Without the Stable-Baselines3 that constraints.txt has: it needs a later PyTorch.
trainer='itp[train]'
[ "${TORCH:-yes}" != no ] || trainer=""
"$venv/bin/python" tools/install.py --oldest build test $trainer
echo "--- compiled core and package"
"$venv/bin/python" -m pip --disable-pip-version-check install -q --no-build-isolation --no-deps \
    --config-settings=build-dir=build/oldest .
"$venv/bin/python" -m pip --disable-pip-version-check check
echo "--- tests"
# Old packages use what newer ones of others deprecate; that is no error here.
"$venv/bin/python" -m pytest -q -W default::DeprecationWarning "$@"
