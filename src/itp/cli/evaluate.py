"""``itp evaluate``: policies against each other in simulated worlds."""

from __future__ import annotations

import argparse
import dataclasses
import glob
import math
import os
import shlex
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from itp._util.command import UsageError, check_name
from itp._util.signals import interruptible
from itp.cli.names import check_policy
from itp.errors import ScenarioError
from itp.evaluation import DEFAULT_SEEDS, compare, ready
from itp.evaluation.analysis import Group, Row
from itp.evaluation.report import Report, check_charts
from itp.evaluation.text import (
    DETAILS,
    NOTHING,
    PERCENT,
    figure,
    heading,
    label,
    number,
    percent,
    replica_rows,
    signed_percent,
    summary,
)
from itp.policies.base import TEST_SEED, Policy
from itp.policies.names import NAMES
from itp.schema import SERVICE_ORDERS
from itp.sim import scenario

_MAX_SEEDS = 100_000
_MAX_TASKS = 1_000_000


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``itp evaluate``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="hold policies against each other in simulated worlds",
        description="Run every policy in the same simulated worlds of every scenario, and compare: slowdown "
        "with intervals, change against the best classical rule, share of the oracle's gap closed.",
    )
    add = parser.add_argument
    add(
        "--policy",
        metavar="NAME|FILE",
        nargs="+",
        action="extend",
        help="a rule, oracle, or a model: a shipped one's name or an .onnx file, with :no-guard behind it "
        "without its guard, with :hard-deadlines obeying deadlines where it can (default: all rules, and the "
        "oracle)",
    )
    add(
        "--replicas",
        metavar="FILE|GLOB",
        nargs="+",
        action="extend",
        default=[],
        help="models that differ by their training seed alone; they are summed up by mean, least and most",
    )
    add("--scenario", metavar="NAME|FILE", nargs="+", action="extend", help="default: all shipped")
    add(
        "--seeds",
        metavar="N",
        type=int,
        default=DEFAULT_SEEDS,
        help="worlds a scenario (default: %(default)s)",
    )
    add(
        "--first-seed",
        metavar="K",
        type=int,
        default=TEST_SEED,
        help="the first of them (default, and least: %(default)s; those below are for training)",
    )
    add(
        "--service-order",
        choices=(*SERVICE_ORDERS, "both"),
        default="both",
        help="how streams serve their chunks (default: %(default)s)",
    )
    add(
        "--load",
        metavar="X",
        type=float,
        help="what arrives, as a share of capacity (default: the scenario's)",
    )
    add("--tasks", metavar="N", type=int, help="tasks an episode (default: the scenario's)")
    add(
        "--rate-scale",
        metavar="X",
        type=float,
        default=1.0,
        help="every rate is that many times the scenario's, the load as a share of capacity stays "
        "(default: %(default)g)",
    )
    add("--reference", metavar="NAME", help="compare with this policy (default: the best classical rule)")
    add("--trace", metavar="FILE", type=Path, help="in place of the traces that a scenario names")
    add("--regions", metavar="FILE", type=Path, help="in place of the table of regions that a scenario names")
    add("--processes", metavar="N", type=int, help="default: one a CPU")
    add("--html", metavar="FILE", type=Path, help="write a page with tables and charts")
    add("--markdown", metavar="FILE", type=Path, help="write the tables as Markdown")
    add("--plots", metavar="DIR", type=Path, help="write the charts as SVG files")
    add("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print, write what was asked for."""
    _check(args)
    policies, replicas = _policies(args)
    scenarios = _scenarios(args)
    orders = SERVICE_ORDERS if args.service_order == "both" else (args.service_order,)
    console = Console(stderr=True)
    with interruptible(), _progress(console) as progress:
        bar = progress.add_task("", total=1.0)

        def show(done: float, title: str) -> None:
            progress.update(bar, completed=done, description=title)

        report = compare(
            policies,
            scenarios,
            range(args.first_seed, args.first_seed + args.seeds),
            replicas=replicas,
            service_orders=orders,
            processes=args.processes,
            progress=show,
            load=args.load,
            tasks=args.tasks,
            rate_scale=args.rate_scale,
            reference=args.reference,
        )
    report = _with_command(report, args)
    written = _write(report, args)
    if args.json:
        print(report.to_json())
    else:
        print_report(report, Console(file=sys.stdout, highlight=False))
    for path in written:
        console.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)
    return 0


# --- arguments ---


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before hours are spent on it."""
    args.replicas = [path for pattern in args.replicas for path in _files(pattern)]
    for name in args.policy or ():
        check_policy("--policy", name)
    for name in args.scenario or ():
        if args.scenario.count(name) > 1:
            raise UsageError(f"--scenario {name} is there twice")
    for option, value, least, most in (
        ("--seeds", args.seeds, 1, _MAX_SEEDS),
        ("--first-seed", args.first_seed, TEST_SEED, 2**63 - _MAX_SEEDS),
        ("--tasks", args.tasks, 1, _MAX_TASKS),
        ("--processes", args.processes, 1, 512),
    ):
        if value is not None and not least <= value <= most:
            raise UsageError(f"{option} must be from {least} to {most}; got {value}")
    if not (math.isfinite(args.rate_scale) and args.rate_scale > 0):
        raise UsageError(f"--rate-scale must be more than 0; got {args.rate_scale:g}")
    if args.load is not None and not (math.isfinite(args.load) and args.load > 0):
        raise UsageError(f"--load must be more than 0; got {args.load:g}")
    for option, path in (("--html", args.html), ("--markdown", args.markdown)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UsageError(f"{option} must be a file in a folder that exists; got {path}")
    if args.plots is not None and args.plots.exists() and not args.plots.is_dir():
        raise UsageError(f"--plots must be a folder; got {args.plots}")
    if args.html is not None or args.plots is not None:
        check_charts()


def _policies(args: argparse.Namespace) -> tuple[list[Policy], list[Policy]]:
    """Policies and replicas."""
    policies, replicas = ready(args.policy or NAMES, args.replicas)
    names = [policy.name for policy in (*policies, *replicas)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"policy {name} is there twice")
    if args.reference is not None:
        check_name("--reference", args.reference, names)
    return policies, replicas


def _files(pattern: str) -> list[str]:
    """The files of models that a pattern, or a path, stands for."""
    paths = [pattern] if os.path.isfile(pattern) else sorted(glob.glob(pattern))
    if not paths:
        raise UsageError(f"--replicas {pattern}: no such file")
    for path in paths:
        if not path.endswith(".onnx"):
            raise UsageError(f"--replicas {path}: expected .onnx files")
    return paths


def _scenarios(args: argparse.Namespace) -> list[scenario.Scenario]:
    """Loaded; files stand in where a scenario names one of the kind."""
    names = args.scenario or scenario.FAMILIES
    for name in names:
        if not os.path.isfile(name):
            check_name("--scenario", name, scenario.FAMILIES)
    options = {key: path for key in ("trace", "regions") if (path := getattr(args, key)) is not None}
    used: set[str] = set()
    loaded = []
    for name in names:
        takes = {key: path for key, path in options.items() if _takes(name, key, path)}
        used.update(takes)
        loaded.append(scenario.load(name, **takes))
    for key in options.keys() - used:
        raise UsageError(f"--{key}: none of the scenarios names a file that it could stand in for")
    return loaded


def _takes(name: str, key: str, path: Path) -> bool:
    """Whether a scenario names a file of this kind."""
    try:
        scenario.load(name, **{key: path})
    except ScenarioError as error:
        if f"names no {key}" not in str(error):
            raise
        return False
    return True


def _with_command(report: Report, args: argparse.Namespace) -> Report:
    """The report with the command line that repeats it, files and all."""
    command = report.configuration.command
    if args.scenario or args.trace or args.regions:
        words = shlex.split(command)
        names = iter(args.scenario or ())
        for k, word in enumerate(words):
            if word == "--scenario":
                words[k + 1] = next(names, words[k + 1])
        for option in ("trace", "regions"):
            if (path := getattr(args, option)) is not None:
                words += [f"--{option}", str(path)]
        command = shlex.join(words)
    return dataclasses.replace(
        report, configuration=dataclasses.replace(report.configuration, command=command)
    )


def _write(report: Report, args: argparse.Namespace) -> list[Path]:
    written = []
    if args.markdown is not None:
        report.to_markdown(args.markdown)
        written.append(args.markdown)
    if args.html is not None:
        written.append(report.to_html(args.html))
    if args.plots is not None:
        report.plot(args.plots)
        written.append(args.plots)
    return written


# --- what people see ---


def _progress(console: Console) -> Progress:
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def print_report(report: Report, console: Console) -> None:
    """Show the tables and what follows from them."""
    analysis = report.analysis
    several = len(report.configuration.scenarios) > 1
    for group in (*analysis.groups, *(analysis.averages if several else ())):
        console.print(_comparison(group), "")
    for group in analysis.groups:
        console.print(_details(group), "")
    if rows := replica_rows(report):
        console.print(_over_seeds(report, rows), "")
    for sentence in summary(report):
        console.print(f"- {sentence}", markup=False)
    configuration = report.configuration
    console.print(
        f"{len(configuration.seeds)} seeds, {configuration.duration_s:.0f} s. Slowdown: geometric mean of "
        "completion time / time over all paths, empty. *: best classical rule. 95 %: bootstrap over seeds.",
        style="dim",
    )


def _comparison(group: Group) -> Table:
    title = f"{group.scenario or 'average over scenarios'}, {group.service_order}"
    table = _table(title)
    table.add_column("policy", no_wrap=True)
    against = "vs\nbest *" if group.reference in (None, group.best_classical) else "vs\nreference"
    for name in ("slowdown", "95 %", against, "95 %", "gap\nclosed"):
        table.add_column(name, justify="right", no_wrap=True)
    for place, row in enumerate(group.rows):
        mark = " *" if row.policy == group.best_classical else ""
        table.add_row(
            label(row.policy) + mark,
            number(row.slowdown.value),
            f"{number(row.slowdown.low)}..{number(row.slowdown.high)}",
            *_against(row, group),
            style="bold" if place == 0 else "green" if mark else None,
        )
    return table


def _against(row: Row, group: Group) -> tuple[str, str, str]:
    if row.policy == group.reference or not row.differences:
        return NOTHING, "", ""
    change = row.change
    low, high = signed_percent(change.low), signed_percent(change.high)
    return signed_percent(change.value), f"{low}..{high}".replace(PERCENT, ""), percent(row.gap_closed.value)


def _details(group: Group) -> Table:
    table = _table(f"{group.scenario}, {group.service_order}: an episode's figures, averaged over seeds")
    # The summary tells of the guard: there is no room for it in 80 columns.
    shown = [
        name
        for name in DETAILS
        if name != "guarded" and (name != "failed" or any(row.figures[name].value for row in group.rows))
    ]
    table.add_column("policy", no_wrap=True)
    for name in shown:
        table.add_column(heading(name).replace(" ", "\n"), justify="right", no_wrap=True)
    for row in group.rows:
        table.add_row(label(row.policy), *(figure(name, row.figures[name].value) for name in shown))
    return table


def _over_seeds(report: Report, rows: list[list[str]]) -> Table:
    count = len(report.configuration.replicas)
    table = _table(f"over {count} training seeds: slowdown against the reference, the oracle's gap closed")
    for name in ("scenario", "order"):
        table.add_column(name, no_wrap=True)
    for name in ("mean", "least to\nmost", "gap\nclosed", "least to\nmost"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _table(title: str) -> Table:
    """A table narrow enough for 80 columns."""
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
