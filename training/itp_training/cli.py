"""The trainer's command line: ``itp train``, ``python -m itp_training``, ``training/train_dqn.py``.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A user's mistake never shows a traceback.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from itp._util.command import UsageError, exit_code
from itp.errors import MissingExtraError
from itp_training.errors import ConfigError
from itp_training.options import build_parser, check

MODULE = "python -m itp_training"
# What the extra itp[train] brings, by the names that fail to import.
_EXTRA = ("torch", "onnx", "matplotlib", "rich")


def main(argv: Sequence[str] | None = None, prog: str = MODULE) -> int:
    """Train or evaluate; returns the exit code."""
    return exit_code(prog, lambda: _run(build_parser(prog).parse_args(argv)))


def _run(args: argparse.Namespace) -> int:
    try:
        check(args)
        # PyTorch takes seconds to import: mistakes are reported before.
        if args.evaluate:
            from itp_training.evaluation import evaluate

            return evaluate(args)
        from itp_training.session import train

        return train(args)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        raise MissingExtraError(f"training needs {error.name}: pip install 'itp[train]'") from None
