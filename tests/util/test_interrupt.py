"""Signals: the first interrupts, those that follow leave the clean-up alone."""

import signal
import subprocess
import sys

import pytest

from itp._util.signals import interruptible

SCRIPT = """
import signal, sys
from itp._util.signals import held_back, interruptible

number, where = int(sys.argv[1]), sys.argv[2]
try:
    with interruptible():
        if where == "held":
            with held_back():
                signal.raise_signal(number)
                signal.raise_signal(number)
                print("held", flush=True)
        elif where == "nested":
            with interruptible():
                signal.raise_signal(number)
        elif where == "made another":
            try:
                signal.raise_signal(number)
            except BaseException as error:
                raise TypeError("as NumPy has it") from error
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
@pytest.mark.parametrize("where", ["open", "held", "nested", "made another"])
def test_only_the_first_signal_counts_also_after_the_block(number, where):
    command = [sys.executable, "-c", SCRIPT, str(int(number)), where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.split("\n")[:-1] == ["held"] * (where == "held") + ["interrupted", "cleaned up"]
    assert done.returncode == 130


def test_a_block_without_a_signal_restores_the_handlers():
    script = """
import signal
from itp._util.signals import held_back, interruptible
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
with interruptible(), interruptible():
    with held_back():
        pass
assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_an_exception_without_a_signal_stays_what_it_is():
    with pytest.raises(TypeError, match="its own"), interruptible():
        raise TypeError("its own")
