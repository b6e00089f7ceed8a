"""The trainer's command line: ``itp train``, ``python -m itp_training``, ``training/train_dqn.py``.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A user's mistake never shows a traceback.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from itp._util.command import UsageError, exit_code
from itp._util.extras import extra
from itp_training.errors import ConfigError
from itp_training.options import build_parser, check
from itp_training.sets.options import SET_SCHEMA

MODULE = "python -m itp_training"


def main(argv: Sequence[str] | None = None, prog: str = MODULE) -> int:
    """Train or evaluate; returns the exit code."""
    return exit_code(prog, lambda: _run(build_parser(prog).parse_args(argv)))


def _run(args: argparse.Namespace) -> int:
    try:
        check(args)
        # PyTorch takes seconds to import: mistakes are reported before.
        with extra("training needs", "train"):
            if args.schema == SET_SCHEMA:
                from itp_training.sets.session import train as work
            elif args.evaluate:
                from itp_training.evaluation import evaluate as work
            else:
                from itp_training.session import train as work
            return work(args)
    except ConfigError as error:
        raise UsageError(str(error)) from None
