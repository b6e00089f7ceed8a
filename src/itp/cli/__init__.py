"""The ``itp`` command: one module a subcommand, each with ``register(subparsers)``.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A user's mistake never shows a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from itp import __version__
from itp._util.command import exit_code
from itp.cli import programs

COMMANDS = ("demo", "info", "recv", "send", "evaluate", "simulate")


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``itp`` with every subcommand registered."""
    parser = argparse.ArgumentParser(
        prog="itp", description="Intelligent Task Partitioning over parallel WAN streams."
    )
    parser.add_argument("--version", action="version", version=f"itp {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"itp.cli.{name}").register(subparsers)
    programs.register(subparsers)
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


if __name__ == "__main__":
    sys.exit(main())
