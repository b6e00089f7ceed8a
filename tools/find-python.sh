#!/bin/sh
# Print the path of Python $1 (3.10, say), from PATH or pyenv; fail if there is none.
for candidate in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
    if [ -x "$candidate" ] && "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
        echo "$candidate"
        exit 0
    fi
done
echo "Python $1: not found (install it, or put python$1 on PATH)" >&2
exit 1
