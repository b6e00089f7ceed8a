"""``itp train``: the trainer, in this process's place."""

from __future__ import annotations

import argparse
import os
import sys


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``itp train``."""
    parser = subparsers.add_parser(
        "train",
        help="train a model in the simulator (extra: itp[train])",
        add_help=False,
        # No argument begins with it: all of them, options too, are the trainer's.
        prefix_chars="\0",
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Become the trainer: signals, output and exit code are its own, and no PyTorch is loaded here."""
    sys.stdout.flush()
    command = [sys.executable, "-m", "itp_training", *args.arguments]
    os.execve(sys.executable, command, {**os.environ, "ITP_PROG": "itp train"})
