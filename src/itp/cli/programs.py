"""Subcommands that are programs of their own: ``itp train`` and ``itp bench``.

The trainer and the benchmark come with the wheel as packages beside ``itp``. This process becomes one:
no PyTorch is loaded here, and the benchmark measures in an interpreter that has run nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import NamedTuple


class _Program(NamedTuple):
    module: str
    about: str


PROGRAMS = {
    "bench": _Program("itp_overhead", "measure ITP's overhead on this machine"),
    "train": _Program("itp_training", "train a model in the simulator (extra: itp[train])"),
}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``itp bench`` and ``itp train``."""
    for name, program in PROGRAMS.items():
        # No argument begins with that prefix: all of them, options too, are the program's.
        parser = subparsers.add_parser(name, help=program.about, add_help=False, prefix_chars="\0")
        parser.add_argument("arguments", nargs=argparse.REMAINDER)
        parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Become the program: signals, output and exit code are its own."""
    sys.stdout.flush()
    command = [sys.executable, "-m", PROGRAMS[args.command].module, *args.arguments]
    os.execve(sys.executable, command, {**os.environ, "ITP_PROG": f"itp {args.command}"})
