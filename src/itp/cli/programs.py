"""Subcommands that are programs of their own: ``itp train`` and ``itp bench``.

The trainer and the benchmark are packages beside ``itp`` in the wheel. This process becomes one of them: no
PyTorch is loaded here, and the benchmark measures in an interpreter that has run nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn


class _Program(NamedTuple):
    module: str
    about: str


PROGRAMS = {
    "bench": _Program("itp_overhead", "measure ITP's overhead on this machine"),
    "train": _Program("itp_training", "train a model in the simulator (needs itp[train])"),
}


def become(name: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the program: signals, output and exit code are its own."""
    sys.stdout.flush()
    command = [sys.executable, "-m", PROGRAMS[name].module, *arguments]
    os.execve(sys.executable, command, {**os.environ, "ITP_PROG": f"itp {name}"})
