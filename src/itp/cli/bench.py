"""``itp bench``: the overhead on this machine, in one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

import itp
from itp.cli import UsageError
from itp.overhead import Timing, measure

PEER = "bare InferenceSession.run"


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("bench", help="measure ITP's overhead on this machine")
    parser.add_argument("--model", help="an .onnx file to measure in place of a random reference network")
    parser.add_argument("--calls", type=int, default=20_000, help="calls of each kind (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    if args.calls < 100:
        raise UsageError(f"--calls must be at least 100; got {args.calls}")
    console = Console(stderr=True)
    with console.status("measuring") as status:
        timings = measure(
            args.model, calls=args.calls, progress=lambda name: status.update(f"measuring: {name}")
        )
    if args.json:
        report = {
            "itp": itp.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "timings": [asdict(timing) for timing in timings],
        }
        json.dump(report, sys.stdout, indent=2)
        print()
    else:
        _print_table(timings)
    return 0


def _print_table(timings: list[Timing]) -> None:
    peer = next((t for t in timings if t.name == PEER), None)
    table = Table(title=f"one call, microseconds ({platform.machine()}, Python {platform.python_version()})")
    table.add_column("call")
    for heading in ("p50", "p99", "p99.9", "worst", "p50 / bare run"):
        table.add_column(heading, justify="right")
    for t in timings:
        ratio = "-" if peer is None else f"{t.p50_us / peer.p50_us:.2f}"
        figures = (f"{us:.2f}" for us in (t.p50_us, t.p99_us, t.p999_us, t.worst_us))
        table.add_row(t.name, *figures, ratio)
    console = Console()
    console.print(table)
    if peer is None:
        console.print("no model measured: pass --model PATH, or pip install onnx for a reference network")
