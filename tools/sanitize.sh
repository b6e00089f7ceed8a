#!/bin/sh
# Compile the core with sanitizers and run the tests under them: all under the address and undefined-behaviour
# sanitizers, those with threads under the race detector. Python itself is not instrumented, so its libraries
# are preloaded; leaks are not looked for, as the interpreter frees little at its end. `sh tools/sanitize.sh
# address` or `thread` runs one of the two; what follows is handed to pytest.
set -eu
cd "$(dirname "$0")/.."

environment() {
    kind=$1 sanitizers=$2
    venv=.venv-$kind
    test -d "$venv" || "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" tools/install.py build test
    "$venv/bin/python" -m pip --disable-pip-version-check install -q --no-build-isolation --no-deps \
        --config-settings=build-dir="build/$kind" --config-settings=cmake.define.ITP_SANITIZE="$sanitizers" .
}

library() { "${CC:-gcc}" -print-file-name="$1"; }

address() {
    environment address address,undefined
    echo "--- all tests under the address and undefined-behaviour sanitizers"
    # The C++ runtime too: the sanitizer must find its exceptions before onnxruntime brings them. What is
    # captured leaves file descriptor 2 alone, where a report goes.
    LD_PRELOAD="$(library libasan.so) $(library libubsan.so) $(library libstdc++.so)" PYTHONMALLOC=malloc \
        ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
        .venv-address/bin/python -m pytest -q -p no:cacheprovider --capture=sys "$@"
}

# Without randomised addresses, which the detector's fixed map does not expect.
detecting() {
    LD_PRELOAD="$(library libtsan.so)" TSAN_OPTIONS=halt_on_error=1:exitcode=66:ignore_noninstrumented_modules=1 \
        setarch -R .venv-thread/bin/python "$@"
}

threads() {
    environment thread thread
    echo "--- a race on purpose, which must be found"
    if detecting tools/race.py 2>/dev/null || [ $? -ne 66 ]; then
        echo "sanitize.sh: the race detector does not detect" >&2
        exit 1
    fi
    echo "--- threads under the race detector"
    detecting -m pytest -q -p no:cacheprovider --capture=sys tests/core/test_fast_path.py -k thread "$@"
}

kind=${1:-all}
[ $# -eq 0 ] || shift
case $kind in
    all) address "$@"; threads "$@" ;;
    address) address "$@" ;;
    thread) threads "$@" ;;
    *) echo "usage: tools/sanitize.sh [address | thread] [pytest's arguments]" >&2; exit 2 ;;
esac
