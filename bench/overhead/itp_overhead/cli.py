"""``itp bench``: ITP's overhead on this machine, beside the alternatives."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

from itp._util import console
from itp._util.command import UsageError, check_name, exit_code
from itp._util.signals import interruptible
from itp.errors import ModelError
from itp.evaluation.report import check_charts
from itp.models.load import find_model
from itp_overhead import suite
from itp_overhead.progress import shown_on
from itp_overhead.tables import print_tables

MODULE = "python -m itp_overhead"
_PLOTS = (".png", ".svg")
_MAX_SECONDS = 86_400.0
_MAX_CALLS = 1_000_000


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of the benchmark, under the name it was started by."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Measure decisions beside bare forward passes of the same network, idle and under load, "
        "then batches, memory, start-up, replay buffer and simulator. Nothing is installed or left behind.",
    )
    add = parser.add_argument
    add("--model", metavar="NAME|FILE", default="dqn_v1", help="a model (default: %(default)s)")
    add(
        "--seconds",
        metavar="S",
        type=float,
        default=60.0,
        help="time to measure in; starting processes and filling buffers adds to it (default: %(default)g)",
    )
    add(
        "--calls",
        metavar="N",
        type=int,
        default=20_000,
        help="most calls of each kind under each condition (default: %(default)s)",
    )
    add(
        "--only",
        metavar="NAME,...",
        help=f"some of {', '.join(suite.SECTIONS)} (default: all)",
    )
    add("--plot", metavar="FILE", type=Path, help="draw the times of decisions: .png or .svg")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = MODULE) -> int:
    """Measure, draw and print; returns the exit code."""
    return exit_code(prog, lambda: _run(build_parser(prog).parse_args(argv)))


def _run(args: argparse.Namespace) -> int:
    only = _check(args)
    messages = console.messages()
    with interruptible(), shown_on(messages) as progress:
        measured = suite.measure(
            args.model, seconds=args.seconds, calls=args.calls, only=only, progress=progress
        )
    if args.json:
        print(json.dumps(measured.as_dict(), indent=2, allow_nan=False))
    else:
        print_tables(measured, console.output())
    # Last: a chart that cannot be written must not cost the figures.
    if args.plot is not None and measured.decisions is not None:
        from itp_overhead import plot  # matplotlib, which `--plot` alone needs

        plot.write(measured.decisions, args.plot)
        console.say(messages, f"wrote {args.plot}")
    return 0


def _check(args: argparse.Namespace) -> tuple[str, ...]:
    """The sections to measure; UsageError for what cannot work, before anything is measured."""
    if not (math.isfinite(args.seconds) and 0.0 < args.seconds <= _MAX_SECONDS):
        raise UsageError(f"--seconds must be more than 0 and at most {_MAX_SECONDS:g}; got {args.seconds:g}")
    if not 1 <= args.calls <= _MAX_CALLS:
        raise UsageError(f"--calls must be from 1 to {_MAX_CALLS}; got {args.calls}")
    try:
        find_model(args.model)
    except ModelError as error:
        raise UsageError(f"--model: {error}") from None
    only = suite.SECTIONS if args.only is None else tuple(name.strip() for name in args.only.split(","))
    for name in only:
        check_name("--only", name, suite.SECTIONS)
    if args.plot is not None:
        if args.plot.suffix.lower() not in _PLOTS:
            raise UsageError(f"--plot must end in {' or '.join(_PLOTS)}; got {args.plot}")
        if args.plot.is_dir() or not args.plot.absolute().parent.is_dir():
            raise UsageError(f"--plot must be a file in a folder that exists; got {args.plot}")
        if "decisions" not in only:
            raise UsageError("--plot draws the times of decisions; add decisions to --only")
        check_charts()
    return only
