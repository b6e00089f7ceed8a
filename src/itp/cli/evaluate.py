"""``itp evaluate``: compare policies in simulated worlds."""

from __future__ import annotations

import argparse
import dataclasses
import glob
import os
import shlex
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

from itp._util import console
from itp._util.command import UsageError, check_name
from itp._util.signals import interruptible
from itp._util.terminal import system_error
from itp.cli.arguments import (
    add_world_options,
    check_output_file,
    check_policy,
    check_positive,
    check_range,
    check_world_options,
    scenarios_of,
    to_path,
)
from itp.errors import ScenarioError
from itp.evaluation import DEFAULT_SEEDS, compare, ready
from itp.evaluation.report import Report, check_charts
from itp.evaluation.terminal import print_report
from itp.policies.base import TEST_SEED, Policy
from itp.policies.names import NAMES
from itp.schema import SERVICE_ORDERS
from itp.sim import scenario

_MAX_SEEDS = 100_000


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of ``itp evaluate``."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Run every policy in the same simulated worlds of every scenario, and compare: slowdown "
        "with confidence intervals, change against the best classical rule, and share of the oracle's gap "
        "closed.",
    )
    add = parser.add_argument
    add(
        "--policy",
        metavar="NAME|FILE",
        nargs="+",
        action="extend",
        help="a rule, oracle, or a model: a shipped one's name or an .onnx file. Behind a model's name, "
        ":no-guard leaves its guard out. Behind a model's or a rule's name, :hard-deadlines closes actions "
        "that are planned to miss the deadline; :soft-deadlines leaves them open to a model (default: all "
        "rules, and the oracle)",
    )
    add(
        "--replicas",
        metavar="FILE|GLOB",
        nargs="+",
        action="extend",
        default=[],
        help="models that differ by their training seed alone; the report has their mean, least and most",
    )
    add(
        "--scenario",
        metavar="NAME|FILE",
        nargs="+",
        action="extend",
        help="shipped ones or files; workloads stands for "
        f"{', '.join(scenario.WORKLOADS)}; families, the default, for {', '.join(scenario.FAMILIES)}",
    )
    add(
        "--seeds",
        metavar="N",
        type=int,
        default=DEFAULT_SEEDS,
        help="worlds of each scenario (default: %(default)s)",
    )
    add(
        "--first-seed",
        metavar="K",
        type=int,
        default=TEST_SEED,
        help="seed of the first world (default, and least: %(default)s; lower ones are for training)",
    )
    add(
        "--service-order",
        choices=(*SERVICE_ORDERS, "both"),
        default="both",
        help="order in which streams serve their chunks (default: %(default)s)",
    )
    add_world_options(add)
    add(
        "--rate-scale",
        metavar="X",
        type=float,
        default=1.0,
        help="multiplies every rate; the load as a share of capacity stays (default: %(default)g)",
    )
    add("--reference", metavar="NAME", help="compare with this policy (default: the best classical rule)")
    add("--processes", metavar="N", type=int, help="default: one for each CPU")
    add("--html", metavar="FILE", type=to_path, help="write a page with tables and charts")
    add("--markdown", metavar="FILE", type=to_path, help="write the tables as Markdown")
    add("--plots", metavar="DIR", type=to_path, help="write the charts as SVG files")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def run(args: argparse.Namespace) -> int:
    """Evaluate, print, write what was asked for."""
    _check(args)
    policies, replicas = _policies(args)
    if args.scenario:
        args.scenario = scenarios_of("--scenario", args.scenario)
    scenarios = _scenarios(args)
    orders = SERVICE_ORDERS if args.service_order == "both" else (args.service_order,)
    messages = console.messages()
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console.description())
    with interruptible(), console.progress(messages, *columns) as progress:
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
    if args.json:
        print(report.to_json())
    else:
        print_report(report, console.output())
    # Last: a file that cannot be written must not cost the figures.
    return _write(report, args, messages)


# --- arguments ---


def _check(args: argparse.Namespace) -> None:
    """UsageError for what cannot work, before hours are spent on it."""
    args.replicas = [path for pattern in args.replicas for path in _files(pattern)]
    for name in args.policy or ():
        check_policy("--policy", name)
    check_range("--seeds", args.seeds, 1, _MAX_SEEDS)
    check_range("--first-seed", args.first_seed, TEST_SEED, 2**63 - _MAX_SEEDS)
    check_range("--processes", args.processes, 1, 512)
    check_world_options(args)
    check_positive("--rate-scale", args.rate_scale)
    check_output_file("--html", args.html)
    check_output_file("--markdown", args.markdown)
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
            raise UsageError(f"policy {name} appears twice")
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
    """The scenarios, loaded; --trace and --regions replace what a scenario names of their kind."""
    names = args.scenario or scenario.FAMILIES
    options = {key: path for key in ("trace", "regions") if (path := getattr(args, key)) is not None}
    used: set[str] = set()
    loaded = []
    for name in names:
        takes = {key: path for key, path in options.items() if _takes(name, key, path)}
        used.update(takes)
        loaded.append(scenario.load(name, n_streams=args.streams, **takes))
        if [world.name for world in loaded].count(loaded[-1].name) > 1:
            raise UsageError(f"--scenario {name}: the name {loaded[-1].name} appears twice")
    for key in options.keys() - used:
        raise UsageError(f"--{key}: no scenario names a file that it could replace")
    return loaded


def _takes(name: str, key: str, path: Path) -> bool:
    """Whether a scenario names a file of this kind."""
    try:
        scenario.load(
            name, trace=path if key == "trace" else None, regions=path if key == "regions" else None
        )
    except ScenarioError as error:
        if f"names no {key}" not in str(error):
            raise
        return False
    return True


def _with_command(report: Report, args: argparse.Namespace) -> Report:
    """The report with the command line that repeats it, files and all."""
    command = report.configuration.command
    if args.scenario or args.trace or args.regions or args.streams:
        words = shlex.split(command)
        names = iter(args.scenario or ())
        for k, word in enumerate(words):
            if word == "--scenario":
                words[k + 1] = next(names, words[k + 1])
        for option in ("trace", "regions"):
            if (path := getattr(args, option)) is not None:
                words += [f"--{option}", str(path)]
        if args.streams is not None:
            words += ["--streams", str(args.streams)]
        command = shlex.join(words)
    return dataclasses.replace(
        report, configuration=dataclasses.replace(report.configuration, command=command)
    )


def _write(report: Report, args: argparse.Namespace, messages: Console) -> int:
    """Write the files that were asked for, each even if another cannot be; returns the exit code."""
    failed = 0
    for path, write in (
        (args.markdown, report.to_markdown),
        (args.html, report.to_html),
        (args.plots, report.plot),
    ):
        if path is None:
            continue
        try:
            write(path)
            console.say(messages, f"wrote {path}")
        except OSError as error:
            console.say(messages, f"itp evaluate: {system_error(error)}")
            failed = 1
    return failed
