"""``bench/check.py``: measure the figures that ITP is held to, and judge them.

Exit codes: 0 all hold, 1 some do not or were not measured, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial

from figures import baseline, policy
from figures.checks import CHECKS, CORE, POLICY, Check
from figures.display import CheckResult, Results, print_results
from figures.figure import Progress
from itp._util import console
from itp._util.command import UsageError, check_name, exit_code
from itp._util.signals import interruptible
from itp_overhead import machine
from itp_overhead.progress import shown_on

PROG = "bench/check.py"


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Measure the figures that ITP is held to, and say of each whether it holds.",
        epilog="Exit code: 0 all hold, 1 some do not or were not measured, 2 wrong usage.",
    )
    add = parser.add_argument
    add("names", metavar="NAME", nargs="*", help=f"what to check: {', '.join(CHECKS)} (default: all)")
    add("--all", action="store_true", help="check all")
    add("--quick", action="store_true", help="rougher figures in less than a minute for each NAME")
    add(
        "--baseline",
        metavar="WHEEL_OR_VENV",
        help="with core: instead of its figures, times of this version over those of that one; "
        "with policy: besides, the time of a decision",
    )
    add("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and judge; returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    return exit_code(PROG, lambda: _run(build_parser().parse_args(given), shlex.join([PROG, *given])))


def _run(args: argparse.Namespace, command: str) -> int:
    checks = _chosen(args)
    described, versions = machine.describe(), machine.versions()
    with interruptible(), shown_on(console.messages()) as progress:
        measured = [_measure(name, check, args.quick, progress) for name, check in checks.items()]
    results = Results(
        command=command,
        date=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        quick=args.quick,
        machine=described,
        versions=versions,
        checks=measured,
    )
    if args.json:
        print(json.dumps(results.as_dict(), indent=2, allow_nan=False))
    else:
        print_results(results)
    return 0 if results.hold else 1


def _chosen(args: argparse.Namespace) -> Mapping[str, Check]:
    """The checks to make; UsageError for names that are none, and for what does not go together."""
    for name in args.names:
        check_name("NAME", name, tuple(CHECKS))
    if args.all and args.names:
        raise UsageError("--all checks everything; leave out --all or the names")
    if args.baseline is not None:
        if args.names not in ([CORE], [POLICY]):
            raise UsageError(
                "--baseline goes with one name, core or policy: bench/check.py core --baseline ..."
            )
        if args.names == [CORE]:
            return {CORE: partial(baseline.measure, args.baseline)}
        return {POLICY: partial(policy.measure, baseline=args.baseline)}
    return {name: check for name, check in CHECKS.items() if not args.names or name in args.names}


def _measure(name: str, check: Check, quick: bool, progress: Progress) -> CheckResult:
    begin_s = time.monotonic()
    figures = check(quick=quick, progress=progress)
    return CheckResult(name=name, figures=figures, duration_s=time.monotonic() - begin_s)
