"""``itp simulate``: episodes of one scenario under one policy, and what can be learnt from them."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import itp
from itp._util.command import UsageError, check_name
from itp._util.files import write_text
from itp._util.signals import held_back, interruptible
from itp.cli.names import check_policy
from itp.cli.units import size_text, time_text
from itp.evaluation.metrics import METRICS, episode_metrics
from itp.experience.export import SUFFIXES, ExperienceFile, experience_file
from itp.policies.base import Policy
from itp.policies.episodes import Rollout, rollouts
from itp.policies.names import make
from itp.policies.served import ModelPolicy
from itp.schema import SERVICE_ORDERS
from itp.sim import scenario

_MAX_EPISODES = 1_000_000
_MAX_TASKS = 1_000_000
_MAX_ENVS = 65_536
_REFRESH_S = 0.1


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``itp simulate``."""
    parser = subparsers.add_parser(
        "simulate",
        help="run episodes of a scenario under one policy",
        description="Run episodes of a scenario under one policy, print what it achieved, and keep the "
        "experiences or the figures of every episode. Ctrl-C keeps the episodes that are over.",
    )
    add = parser.add_argument
    add("scenario", metavar="SCENARIO", type=Path, help=f"a file, or one of {', '.join(scenario.FAMILIES)}")
    add(
        "--policy",
        metavar="NAME|FILE",
        default="least_completion_time",
        help="a policy, or a model: see itp evaluate (default: %(default)s)",
    )
    add("--episodes", metavar="N", type=int, default=100, help="default: %(default)s")
    add(
        "--seed",
        metavar="S",
        type=int,
        help="of the first world, the next ones follow (default: the scenario's)",
    )
    add("--service-order", choices=SERVICE_ORDERS, help="how streams serve their chunks")
    add("--load", metavar="X", type=float, help="what arrives, as a share of capacity")
    add("--tasks", metavar="N", type=int, help="tasks an episode")
    add(
        "--epsilon",
        metavar="E",
        type=float,
        default=0.0,
        help="share of decisions drawn at random (default: 0)",
    )
    add("--envs", metavar="N", type=int, default=64, help="episodes side by side (default: %(default)s)")
    add("--threads", metavar="N", type=int, default=1, help="that divide them (default: %(default)s)")
    add("--trace", metavar="FILE", type=Path, help="in place of the traces that the scenario names")
    add(
        "--regions",
        metavar="FILE",
        type=Path,
        help="in place of the table of regions that the scenario names",
    )
    add("--experiences", metavar="FILE", type=Path, help="keep every experience: .npz or .parquet")
    add("--metrics", metavar="FILE", type=Path, help="keep every episode's figures: a line of JSON each")
    add("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)


@dataclass(slots=True)
class _Run:
    """What has been done so far."""

    figures: list[dict[str, NDArray[np.float64]]]
    seeds: list[NDArray[np.uint64]]
    guarded: float = math.nan
    duration_s: float = 0.0
    interrupted: bool = False

    @property
    def episodes(self) -> int:
        return sum(map(len, self.seeds))

    def take(self, rollout: Rollout, n_tasks: int) -> None:
        self.figures.append(episode_metrics(rollout.outcomes, len(rollout.seeds), n_tasks))
        self.seeds.append(rollout.seeds)

    def figure(self, name: str) -> NDArray[np.float64]:
        return np.concatenate([figures[name] for figures in self.figures])


def run(args: argparse.Namespace) -> int:
    """Simulate, write what was asked for, print; 130 if interrupted."""
    policy = _check(args)
    world = scenario.load(str(args.scenario), trace=args.trace, regions=args.regions).with_options(
        service_order=args.service_order, load=args.load, tasks=args.tasks
    )
    first = world.seed if args.seed is None else args.seed
    setting = {
        "scenario": world.name,
        "service_order": world.service_order,
        "load": args.load,
        "tasks": world.n_tasks,
        "policy": policy.name,
        "epsilon": args.epsilon,
        "first_seed": first,
        "itp": itp.__version__,
    }
    console = Console(stderr=True)
    for warning in world.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    with interruptible(), _kept(args.experiences, world.n_streams, setting) as experiences:
        done = _simulate(args, world, policy, first, experiences, console)
        with held_back():
            written = _write(args, done, setting, experiences)
    if args.json:
        print(json.dumps(_report(args, done, setting, experiences)))
    elif done.episodes:
        _print(done, setting)
    for line in written:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if done.interrupted:
        print(f"itp simulate: interrupted after {done.episodes} of {args.episodes} episodes", file=sys.stderr)
        return 130
    return 0


def _check(args: argparse.Namespace) -> Policy:
    """The policy; UsageError for what cannot work."""
    for option, value, least, most in (
        ("--episodes", args.episodes, 1, _MAX_EPISODES),
        ("--seed", args.seed, 0, 2**63),
        ("--tasks", args.tasks, 1, _MAX_TASKS),
        ("--envs", args.envs, 1, _MAX_ENVS),
        ("--threads", args.threads, 1, 256),
        ("--epsilon", args.epsilon, 0, 1),
    ):
        if value is not None and not least <= value <= most:
            raise UsageError(f"{option} must be from {least} to {most}; got {value}")
    if args.load is not None and not (math.isfinite(args.load) and args.load > 0):
        raise UsageError(f"--load must be more than 0; got {args.load:g}")
    for option, path in (("--experiences", args.experiences), ("--metrics", args.metrics)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UsageError(f"{option} must be a file in a folder that exists; got {path}")
    if args.experiences is not None and args.experiences.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--experiences must end in {' or '.join(SUFFIXES)}; got {args.experiences}")
    if not args.scenario.is_file():
        check_name("SCENARIO", str(args.scenario), scenario.FAMILIES)
    check_policy("--policy", args.policy)
    return make(args.policy)


@contextmanager
def _kept(path: Path | None, n_streams: int, setting: dict[str, Any]) -> Iterator[ExperienceFile | None]:
    """The file of experiences; nothing of it stays behind unless it was closed."""
    if path is None:
        yield None
        return
    file = experience_file(path, n_streams, setting)
    try:
        yield file
    finally:
        with held_back():
            file.discard()


def _simulate(
    args: argparse.Namespace,
    world: scenario.Scenario,
    policy: Policy,
    first: int,
    experiences: ExperienceFile | None,
    console: Console,
) -> _Run:
    """Run the episodes; on Ctrl-C, those that are over by then."""
    done = _Run([], [])
    start_s = time.monotonic()
    with _progress(console) as progress:
        bar = progress.add_task("", total=args.episodes * world.n_tasks)
        decided, shown_s = 0, start_s

        def show(decisions: int) -> None:
            nonlocal decided, shown_s
            decided += decisions
            now_s = time.monotonic()
            if now_s > shown_s + _REFRESH_S:
                shown_s = now_s
                rate = f"{decided / (now_s - start_s):,.0f} decisions/s"
                progress.update(bar, completed=decided, description=rate)

        try:
            with interruptible():
                for rollout in rollouts(
                    world,
                    policy,
                    range(first, first + args.episodes),
                    n_envs=args.envs,
                    threads=args.threads,
                    epsilon=args.epsilon,
                    experiences=experiences is not None,
                    progress=show,
                ):
                    with held_back():
                        done.take(rollout, world.n_tasks)
                        if experiences is not None and rollout.experiences is not None:
                            experiences.append(rollout.experiences)
        except KeyboardInterrupt:
            done.interrupted = True
        except MemoryError as error:
            raise UsageError(f"--envs {args.envs}: {error}") from None
    done.duration_s = time.monotonic() - start_s
    if isinstance(policy, ModelPolicy) and policy.has_guard:
        done.guarded = policy.guarded / max(policy.decisions, 1)
    return done


def _write(
    args: argparse.Namespace, done: _Run, setting: dict[str, Any], experiences: ExperienceFile | None
) -> list[str]:
    """Finish the files; what was written, in words. Nothing is, where no episode is over."""
    if not done.episodes:
        return []
    written = []
    if experiences is not None:
        experiences.close()
        written.append(f"wrote {experiences.path}: {experiences.rows} experiences")
    if args.metrics is not None:
        write_text(args.metrics, _lines(done, setting))
        written.append(f"wrote {args.metrics}: {done.episodes} episodes")
    return written


def _lines(done: _Run, setting: dict[str, Any]) -> str:
    shared = {key: setting[key] for key in ("scenario", "service_order", "policy", "epsilon")}
    columns = {name: done.figure(name) for name in METRICS}
    columns["slowdown"] = np.exp(columns["log_slowdown"])
    for name in ("resent_bytes", "tasks", "failed"):
        columns[name] = columns[name].astype(np.int64)
    lines = []
    for k, seed in enumerate(np.concatenate(done.seeds).tolist()):
        figures = {name: _known(values[k].item()) for name, values in columns.items()}
        lines.append(json.dumps({"seed": seed, **shared, **figures}) + "\n")
    return "".join(lines)


# --- what people and programs see ---


def _known(value: float) -> float | None:
    """None for NaN, which JSON does not know."""
    return value if math.isfinite(value) else None


def _summary(done: _Run) -> dict[str, float]:
    """Means over episodes."""
    if not done.episodes:
        return {}
    means = {}
    for name in METRICS:
        values = done.figure(name)
        known = values[np.isfinite(values)]
        means[name] = float(known.mean()) if len(known) else math.nan
    return {"slowdown": math.exp(means.pop("log_slowdown")), **means, "guarded": done.guarded}


def _report(
    args: argparse.Namespace, done: _Run, setting: dict[str, Any], experiences: ExperienceFile | None
) -> dict[str, Any]:
    decisions = done.episodes * setting["tasks"]
    kept = done.episodes > 0
    return {
        **setting,
        "episodes": done.episodes,
        "interrupted": done.interrupted,
        "duration_s": done.duration_s,
        "decisions_per_s": decisions / done.duration_s,
        "figures": {name: _known(value) for name, value in _summary(done).items()},
        "experiences": str(experiences.path) if experiences is not None and kept else None,
        "metrics": str(args.metrics) if args.metrics is not None and kept else None,
    }


def _progress(console: Console) -> Progress:
    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    return Progress(
        *columns,
        TextColumn("{task.description}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _print(done: _Run, setting: dict[str, Any]) -> None:
    figures = _summary(done)
    title = f"{setting['scenario']}, {setting['service_order']}, {setting['policy'].replace('_', ' ')}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_row("episodes, of tasks each", f"{done.episodes}, {setting['tasks']}")
    if setting["epsilon"]:
        table.add_row("explored", f"{100 * setting['epsilon']:g} %")
    table.add_row("slowdown, geometric mean", f"{figures['slowdown']:.3f}")
    for name, words in (("mean_s", "mean"), ("p50_s", "p50"), ("p95_s", "p95"), ("p99_s", "p99")):
        table.add_row(f"{words} completion time of an episode", time_text(figures[name]))
    if not math.isnan(figures["guarded"]):
        table.add_row("decided by the guard", f"{100 * figures['guarded']:.1f} %")
    table.add_row("reward a task", f"{figures['reward']:.3f}")
    met = figures["deadlines_met"]
    table.add_row("deadlines met", "none set" if math.isnan(met) else f"{100 * met:.1f} %")
    table.add_row("goodput", f"{figures['goodput_mbps']:.1f} Mbit/s")
    table.add_row("re-sent an episode", size_text(figures["resent_bytes"]))
    if figures["failed"]:
        table.add_row("tasks failed an episode", f"{figures['failed']:.2f}", style="red")
    table.add_row("decisions/s", f"{done.episodes * setting['tasks'] / done.duration_s:,.0f}")
    Console(file=sys.stdout, highlight=False).print(table)
