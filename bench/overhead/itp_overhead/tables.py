"""The tables that ``itp bench`` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from itp._util.console import say
from itp._util.console import table as plain_table
from itp_overhead.batches import Batches
from itp_overhead.decisions import BARE, Decisions
from itp_overhead.memory import EXPERIENCES, Memory
from itp_overhead.replay import ITP, Replay
from itp_overhead.simulation import N_ENVS, Simulation
from itp_overhead.startup import RUNS, Startup
from itp_overhead.suite import Measured

_NONE = "-"


def print_tables(measured: Measured, console: Console) -> None:
    """Print a table for each section that was measured."""
    machine = measured.machine
    versions = ", ".join(f"{name} {version}" for name, version in measured.versions.items() if version)
    lines = (
        f"{machine['cpu']}, {machine['cpus']} usable, {machine['system']}, load "
        + " ".join(f"{load:.1f}" for load in machine["load_average"]),
        f"Python {machine['python']}, {versions}",
        f"model {measured.model.version}, {measured.model.path}",
    )
    for line in lines:
        say(console, line)
    console.print()
    if measured.decisions is not None:
        _decisions(measured.decisions, console)
    if measured.batches is not None:
        _batches(measured.batches, console)
    if measured.memory is not None:
        _memory(measured.memory, console)
    if measured.startup is not None:
        _startup(measured.startup, console)
    if measured.replay is not None:
        _replay(measured.replay, console)
    if measured.simulator is not None:
        _simulator(measured.simulator, console)


def _table(title: str, *figures: str) -> Table:
    table = plain_table(title, [""], [])
    table.min_width = len(title)
    for heading in figures:  # these wrap
        table.add_column(heading, justify="right")
    return table


def _decisions(decisions: Decisions, console: Console) -> None:
    table = _table("decisions, us a call", "calls", "p50", "p99", "p99.9", "worst", "bare/this")
    absent = dict(decisions.absent)
    for condition in decisions.conditions:
        if condition.not_measured is not None:
            absent[condition.name] = condition.not_measured
            continue
        pace = "" if condition.load_per_s is None else f", {condition.load_per_s:,.0f}/s"
        table.add_row(f"{condition.name}{pace}", style="bold")
        for timing in condition.timings:
            table.add_row(
                f" {timing.name}",
                f"{timing.calls:,}",
                *map(_us, (timing.p50_us, timing.quantile_us(0.99), timing.quantile_us(0.999))),
                _us(timing.worst_us),
                _times(condition.ratio(timing)),
            )
        table.add_section()
    console.print(table, "")
    _absent(absent, console)


def _batches(batches: Batches, console: Console) -> None:
    names = [timing.name for timing in batches.batches[0].timings]
    table = _table("batches, states/s", *names, "this/bare")
    for batch in batches.batches:
        rates = [batch.states_per_s(timing) for timing in batch.timings]
        ratio = rates[0] / rates[names.index(BARE)]
        table.add_row(f"{batch.states:,} states", *(f"{rate:,.0f}" for rate in rates), _times(ratio))
    console.print(table, "")
    _absent(batches.absent, console)


def _memory(memory: Memory, console: Console) -> None:
    table = _table("memory, resident set of a fresh process", "MB")
    for name, mb in (
        ("Python with NumPy", memory.python_mb),
        ("+ import itp", memory.itp_mb),
        (f"+ a partitioner with the model ({memory.engine} engine)", memory.partitioner_mb),
        (f"+ a replay buffer of {EXPERIENCES:,} experiences, full", memory.replay_mb),
        ("sum of what ITP adds", memory.added_mb),
        (f"growth over {memory.decisions:,} decisions", memory.grown_mb),
    ):
        table.add_row(name, f"{mb:.1f}")
    console.print(table, "")
    console.print(f"growth of Python's memory blocks over these decisions: {memory.grown_blocks:,}\n")


def _startup(startup: Startup, console: Console) -> None:
    table = _table(f"start-up, medians of {RUNS} fresh processes", "ms")
    table.add_row("import numpy", f"{startup.numpy_median_ms:.0f}")
    table.add_row("+ import itp", f"{startup.itp_median_ms:.0f}")
    console.print(table, "")


def _replay(replay: Replay, console: Console) -> None:
    title = f"replay buffer of {replay.stored:,} transitions, us a call"
    table = _table(title, "calls", "p50", "p99", "p99.9", "worst", "this/itp")
    for call, timings in replay.timings.items():
        table.add_row(call, style="bold")
        itp_us = next(timing.p50_us for timing in timings if timing.name == ITP)
        for timing in timings:
            table.add_row(
                f" {timing.name}",
                f"{timing.calls:,}",
                *map(_us, (timing.p50_us, timing.quantile_us(0.99), timing.quantile_us(0.999))),
                _us(timing.worst_us),
                _times(timing.p50_us / itp_us),
            )
        table.add_section()
    console.print(table, "")
    _absent(replay.absent, console)


def _simulator(simulation: Simulation, console: Console) -> None:
    table = _table(f"simulator, one thread, {N_ENVS:,} environments", "decisions/s")
    table.add_row("random actions", f"{simulation.random_per_s:,.0f}")
    table.add_row("least completion time", f"{simulation.least_completion_time_per_s:,.0f}")
    console.print(table, "")
    console.print(f"reading the experiences of a step takes {simulation.experiences_share:.2f} of its time\n")


def _absent(absent: dict[str, str], console: Console) -> None:
    for name, why in absent.items():
        say(console, f"not measured: {name}: {why}")
    if absent:
        console.print()


def _us(value_us: float | None) -> str:
    if value_us is None:
        return _NONE
    return f"{value_us:.2f}" if value_us < 100.0 else f"{value_us:,.0f}"


def _times(ratio: float | None) -> str:
    if ratio is None:
        return _NONE
    return f"{ratio:.2f}x" if ratio < 100.0 else f"{ratio:,.0f}x"
