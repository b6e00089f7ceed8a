"""The ``itp`` command: a module a subcommand, with ``build_parser(prog)`` and ``run(args)``.

The module of a subcommand is loaded when it is asked for, so each needs its own extras alone.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A user's mistake never shows a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from itp import __version__
from itp._util.command import exit_code
from itp._util.extras import extra
from itp.cli import programs


class _Command(NamedTuple):
    about: str
    extras: str = "cli"


COMMANDS = {
    "demo": _Command("compare policies in real transfers over unequal streams", "cli,transport"),
    "info": _Command("show versions, engine, models and CPU features"),
    "recv": _Command("receive files over parallel streams", "cli,transport"),
    "send": _Command("send files over parallel streams", "cli,transport"),
    "evaluate": _Command("compare policies in simulated worlds"),
    "simulate": _Command("run episodes of a scenario under one policy"),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``itp`` itself: which command, and the arguments that are the command's to parse."""
    parser = argparse.ArgumentParser(
        prog="itp", description="Intelligent Task Partitioning over parallel WAN streams."
    )
    parser.add_argument("--version", action="version", version=f"itp {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, about in (
        *((name, command.about) for name, command in COMMANDS.items()),
        *((name, program.about) for name, program in programs.PROGRAMS.items()),
    ):
        # No argument begins with that prefix: all that follow, options too, are the command's.
        command = subparsers.add_parser(name, help=about, add_help=False, prefix_chars="\0")
        command.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``itp``; returns the exit code."""
    return exit_code("itp", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    if args.command in programs.PROGRAMS:
        return programs.become(args.command, args.arguments)
    prog = f"itp {args.command}"
    return exit_code(prog, lambda: _run_command(args.command, prog, args.arguments))


def _run_command(name: str, prog: str, arguments: Sequence[str]) -> int:
    with extra("the command needs", COMMANDS[name].extras):
        module = importlib.import_module(f"itp.cli.{name}")
    return int(module.run(module.build_parser(prog).parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
