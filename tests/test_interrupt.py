"""Signals: the first interrupts, those that follow leave the clean-up alone."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import signal, sys
from itp.interrupt import held_back, interruptible

number, held = int(sys.argv[1]), sys.argv[2] == "held"
try:
    with interruptible():
        if held:
            with held_back():
                signal.raise_signal(number)
                signal.raise_signal(number)
                print("held", flush=True)
        else:
            signal.raise_signal(number)
        print("not reached")
except KeyboardInterrupt:
    print("interrupted", flush=True)
for again in (signal.SIGINT, signal.SIGTERM):
    signal.raise_signal(again)
print("cleaned up")
sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["open", "held"])
def test_only_the_first_signal_counts_also_after_the_block(number, where):
    command = [sys.executable, "-c", SCRIPT, str(int(number)), where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.split("\n")[:-1] == ["held"] * (where == "held") + ["interrupted", "cleaned up"]
    assert done.returncode == 130


def test_a_block_without_a_signal_restores_the_handlers():
    script = """
import signal
from itp.interrupt import held_back, interruptible
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
with interruptible():
    with held_back():
        pass
assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
