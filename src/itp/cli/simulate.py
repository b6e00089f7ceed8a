"""``itp simulate``: episodes of one scenario under one policy, their figures and their experiences."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

import itp
from itp._core.heuristic import DEFAULT_POLICIES
from itp._util import console
from itp._util.command import UsageError
from itp._util.files import write_text
from itp._util.signals import held_back, interruptible
from itp._util.terminal import system_error
from itp.cli.arguments import (
    add_world_options,
    check_output_file,
    check_policy,
    check_range,
    check_scenario,
    check_world_options,
    to_path,
)
from itp.cli.units import json_text, size_text, time_text
from itp.evaluation.metrics import METRICS, rollout_metrics
from itp.evaluation.text import label
from itp.experience.export import SUFFIXES, ExperienceFile, experience_file
from itp.policies.base import Policy
from itp.policies.episodes import Rollout, rollouts
from itp.policies.names import make
from itp.schema import SERVICE_ORDERS
from itp.sim import scenario

_MAX_EPISODES = 1_000_000
_MAX_ENVS = 65_536
_REFRESH_S = 0.1
_FILES = ("experiences", "metrics")


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of ``itp simulate``."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Run episodes of a scenario under one policy, print what it achieved, and keep the "
        "experiences or the figures of every episode. Ctrl-C keeps the episodes that are complete.",
    )
    add = parser.add_argument
    add(
        "scenario",
        metavar="SCENARIO",
        help=f"a file, or one of {', '.join((*scenario.FAMILIES, *scenario.WORKLOADS))}",
    )
    add(
        "--policy",
        metavar="NAME|FILE",
        help="a policy, or a model: see itp evaluate (default: "
        f"{', '.join(f'{rule} for {order}' for order, rule in DEFAULT_POLICIES.items())})",
    )
    add("--episodes", metavar="N", type=int, default=100, help="default: %(default)s")
    add(
        "--seed",
        metavar="S",
        type=int,
        help="seed of the first world; the next ones follow (default: the scenario's)",
    )
    add(
        "--service-order",
        choices=SERVICE_ORDERS,
        help="order in which streams serve their chunks (default: the scenario's)",
    )
    add_world_options(add)
    add(
        "--epsilon",
        metavar="E",
        type=float,
        default=0.0,
        help="share of decisions drawn at random (default: 0)",
    )
    add("--envs", metavar="N", type=int, default=64, help="episodes side by side (default: %(default)s)")
    add("--threads", metavar="N", type=int, default=1, help="threads that run them (default: %(default)s)")
    add("--experiences", metavar="FILE", type=to_path, help="keep every experience: .npz or .parquet")
    add("--metrics", metavar="FILE", type=to_path, help="keep every episode's figures: one line of JSON each")
    add("--json", action="store_true", help="print one JSON object")
    return parser


@dataclass(slots=True)
class _Run:
    """The episodes that are complete."""

    figures: list[dict[str, NDArray[np.float64]]]
    seeds: list[NDArray[np.uint64]]
    duration_s: float = 0.0
    interrupted: bool = False

    @property
    def episodes(self) -> int:
        return sum(map(len, self.seeds))

    def take(self, rollout: Rollout, n_tasks: int) -> None:
        self.figures.append(rollout_metrics(rollout, n_tasks))
        self.seeds.append(rollout.seeds)

    def figure(self, name: str) -> NDArray[np.float64]:
        return np.concatenate([figures[name] for figures in self.figures])


def run(args: argparse.Namespace) -> int:
    """Simulate, write the files that were asked for and print the figures; 130 if interrupted."""
    _check(args)
    world = scenario.load(
        args.scenario, trace=args.trace, regions=args.regions, n_streams=args.streams
    ).with_options(service_order=args.service_order, load=args.load, tasks=args.tasks)
    policy = make(args.policy or DEFAULT_POLICIES[world.service_order])
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
    messages = console.messages()
    for warning in world.warnings:
        console.say(messages, f"warning: {warning}")
    with interruptible(), _kept(args.experiences, world.n_streams, setting) as experiences:
        done = _simulate(args, world, policy, first, experiences, messages)
        with held_back():
            written, failures = _write(args, done, setting, experiences)
    if args.json:
        print(json_text({**_report(done, setting), **{name: written.get(name) for name in _FILES}}))
    elif done.episodes:
        _print(done, setting)
    for name, path in written.items():
        rows = f"{experiences.rows} experiences" if name == "experiences" and experiences else None
        console.say(messages, f"wrote {path}: {rows or f'{done.episodes} episodes'}")
    for failure in failures:
        console.say(messages, f"itp simulate: {failure}")
    if done.interrupted:
        console.say(messages, f"itp simulate: interrupted after {done.episodes} of {args.episodes} episodes")
        return 130
    return 1 if failures else 0


def _check(args: argparse.Namespace) -> None:
    """UsageError for what cannot work."""
    check_range("--episodes", args.episodes, 1, _MAX_EPISODES)
    check_range("--seed", args.seed, 0, 2**63)
    check_range("--envs", args.envs, 1, _MAX_ENVS)
    check_range("--threads", args.threads, 1, 256)
    check_range("--epsilon", args.epsilon, 0, 1)
    check_world_options(args)
    check_output_file("--experiences", args.experiences)
    check_output_file("--metrics", args.metrics)
    if args.experiences is not None and args.experiences.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--experiences must end in {' or '.join(SUFFIXES)}; got {args.experiences}")
    check_scenario("SCENARIO", args.scenario)
    if args.policy is not None:
        check_policy("--policy", args.policy)


@contextmanager
def _kept(path: Path | None, n_streams: int, setting: dict[str, Any]) -> Iterator[ExperienceFile | None]:
    """The file of experiences; unless it is closed, nothing of it stays behind."""
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
    messages: Console,
) -> _Run:
    """Run the episodes; on Ctrl-C, keep those that are complete."""
    done = _Run([], [])
    start_s = time.monotonic()
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console.description())
    with console.progress(messages, *columns) as progress:
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
    return done


def _write(
    args: argparse.Namespace, done: _Run, setting: dict[str, Any], experiences: ExperienceFile | None
) -> tuple[dict[str, str], list[str]]:
    """Finish the files; which were written, by option, and what went wrong. No episode, no file."""
    written, failures = {}, []
    if done.episodes and experiences is not None:
        try:
            experiences.close()
            written["experiences"] = str(experiences.path)
        except OSError as error:
            failures.append(f"{experiences.path}: {error.strerror or error}")
    if done.episodes and args.metrics is not None:
        try:
            write_text(args.metrics, _lines(done, setting))
            written["metrics"] = str(args.metrics)
        except OSError as error:
            failures.append(system_error(error))
    return written, failures


def _lines(done: _Run, setting: dict[str, Any]) -> str:
    shared = {key: setting[key] for key in ("scenario", "service_order", "policy", "epsilon")}
    columns = {name: done.figure(name) for name in METRICS}
    columns["slowdown"] = np.exp(columns["log_slowdown"])
    for name in ("resent_bytes", "tasks", "failed"):
        columns[name] = columns[name].astype(np.int64)
    lines = []
    for k, seed in enumerate(np.concatenate(done.seeds).tolist()):
        figures = {name: values[k].item() for name, values in columns.items()}
        lines.append(json_text({"seed": seed, **shared, **figures}) + "\n")
    return "".join(lines)


# --- what people and programs see ---


def _summary(done: _Run) -> dict[str, float]:
    """Means over episodes."""
    if not done.episodes:
        return {}
    means = {}
    for name in METRICS:
        values = done.figure(name)
        known = values[np.isfinite(values)]
        means[name] = float(known.mean()) if len(known) else math.nan
    return {"slowdown": math.exp(means.pop("log_slowdown")), **means}


def _report(done: _Run, setting: dict[str, Any]) -> dict[str, Any]:
    return {
        **setting,
        "episodes": done.episodes,
        "interrupted": done.interrupted,
        "duration_s": done.duration_s,
        "decisions_per_s": done.episodes * setting["tasks"] / done.duration_s,
        "figures": _summary(done),
    }


def _print(done: _Run, setting: dict[str, Any]) -> None:
    figures = _summary(done)
    title = f"{setting['scenario']}, {setting['service_order']}, {label(setting['policy'])}"
    table = console.table(title, [""], [""], header=False)
    table.add_row("episodes, of tasks each", f"{done.episodes}, {setting['tasks']}")
    if setting["epsilon"]:
        table.add_row("explored", f"{100 * setting['epsilon']:g} %")
    table.add_row("slowdown, geometric mean", f"{figures['slowdown']:.3f}")
    table.add_row("p99 slowdown of an episode", f"{figures['p99_slowdown']:.1f}")
    for name in ("mean_s", "p50_s", "p95_s", "p99_s"):
        table.add_row(f"{name.removesuffix('_s')} completion time of an episode", time_text(figures[name]))
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
    console.output().print(table)
