"""The ``itp`` command: one module a subcommand, each with ``register(subparsers)``.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A user's mistake never shows a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence

from itp import __version__
from itp.errors import ItpError
from itp.terminal import printable

COMMANDS = ("demo", "info", "recv", "send", "bench", "evaluate", "simulate", "train")


class UsageError(Exception):
    """Arguments that parse but make no sense together; exit code 2."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``itp`` with every subcommand registered."""
    parser = argparse.ArgumentParser(
        prog="itp", description="Intelligent Task Partitioning over parallel WAN streams."
    )
    parser.add_argument("--version", action="version", version=f"itp {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"itp.cli.{name}").register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``itp``; returns the exit code."""
    try:
        parser = build_parser()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("rich", "blake3", "xxhash"):
            raise
        needs = "pip install rich blake3 xxhash (the extras [cli,transport] of itp)"
        print(f"itp: the command line needs {error.name}: {needs}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("itp: interrupted", file=sys.stderr)
        return 130
    args = parser.parse_args(argv)
    return exit_code(f"itp {args.command}", lambda: int(args.run(args)))


def exit_code(name: str, run: Callable[[], int]) -> int:
    """Run a command; what ends it early, and is not a mistake of ours, becomes a line under its name."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As standard error has it: what the terminal's encoding lacks must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = run()
        sys.stdout.flush()
    except UsageError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter's last flush must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ItpError, OSError) as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
