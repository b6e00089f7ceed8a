"""Child processes that end with the block they were started for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from itp._util.signals import held_back
from itp.errors import ItpError


@contextmanager
def child(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own, which no Ctrl-C reaches; what is left of it at the end is killed."""
    process = None
    try:
        with held_back():
            process = subprocess.Popen(command, text=True, start_new_session=True, **options)
        yield process
    finally:
        with held_back():
            if process is not None:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                for pipe in (process.stdout, process.stderr):
                    if pipe is not None:
                        pipe.close()


def run_python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints that runs `code`; ItpError if it fails."""
    command = [sys.executable, "-c", code, *arguments]
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate()
    if process.returncode != 0:
        raise ItpError(f"a process to measure in failed: {last_line(err)}")
    return str(out)


def last_line(text: str) -> str:
    """What a failed process said last, which mostly tells why."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
