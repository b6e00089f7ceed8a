"""Child processes that end, at the latest, with the block that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from itp._util.signals import held_back
from itp.errors import ItpError


@contextmanager
def child(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own, out of reach of Ctrl-C; it is killed if the block ends first."""
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
                for pipe in (process.stdin, process.stdout, process.stderr):
                    if pipe is not None:
                        with suppress(BrokenPipeError):  # of what was still to be written
                            pipe.close()


def run_python(code: str, *arguments: str, **options: Any) -> str:
    """The standard output of a fresh interpreter that runs `code`; `options` are those of ``Popen``.

    Raises
    ------
    ItpError
        The process failed; the text has the last line of its standard error.
    """
    command = [sys.executable, "-c", code, *arguments]
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        out, err = process.communicate()
    if process.returncode != 0:
        raise ItpError(f"a measuring process failed: {last_line(err)}")
    return str(out)


def last_line(text: str) -> str:
    """The last line of a process's output, which mostly says why it failed."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"
