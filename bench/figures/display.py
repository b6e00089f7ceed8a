"""The results of checks: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from figures.figure import Figure, Progress, all_hold, number

_WIDTH = 130
"""Of a table that does not go to a terminal."""
_VERDICTS = {True: "[green]holds", False: "[bold red]does not hold", None: ""}
_NOT_MEASURED = "[bold yellow]not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The figures of a check, and how long they took."""

    name: str
    figures: Sequence[Figure]
    duration_s: float

    @property
    def holds(self) -> bool:
        """Whether all that is asked holds."""
        return all_hold(self.figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All checks of a run, and what they were made on."""

    command: str
    date: str
    quick: bool
    machine: dict[str, Any]
    versions: dict[str, str | None]
    checks: Sequence[CheckResult]

    @property
    def hold(self) -> bool:
        """Whether all that is asked holds."""
        return all(check.holds for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "command": self.command,
            "date": self.date,
            "quick": self.quick,
            "machine": self.machine,
            "versions": self.versions,
            "hold": self.hold,
            "checks": [
                {
                    "name": check.name,
                    "hold": check.holds,
                    "duration_s": round(check.duration_s, 1),
                    "figures": [figure.as_dict() for figure in check.figures],
                }
                for check in self.checks
            ],
        }


def print_results(results: Results, console: Console) -> None:
    """What was measured on, a table for each check, and a summary."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items() if version)
    load = " ".join(f"{average:.1f}" for average in machine["load_average"])
    for line in (
        f"{results.command}, {results.date}",
        f"{machine['cpu']}, {machine['cpus']} usable, {machine['system']}, load {load}",
        f"Python {machine['python']}, {versions}",
    ):
        console.print(line, markup=False, soft_wrap=True)
    for check in results.checks:
        console.print()
        console.print(_table(check))
        console.print(_summary(check), markup=False, soft_wrap=True)


def stdout_console() -> Console:
    """A console on standard output, wide enough for the tables where that is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


def _table(check: CheckResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(check.name, ratio=1)
    for heading in ("measured", "interval", "asked"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for figure in check.figures:
        note = f"\n  [dim]{escape(figure.note)}" if figure.note else ""
        table.add_row(escape(figure.about) + note, *_cells(figure))
    return table


def _cells(figure: Figure) -> tuple[str, str, str, str]:
    unit = "x" if figure.unit == "x" else f" {figure.unit}"
    value = "-" if figure.value is None else f"{number(figure.value)}{unit}"
    ends = (figure.low, figure.high)
    interval = " to ".join(number(end) for end in ends if end is not None)
    unmeasured = figure.value is None and figure.asked is not None
    verdict = _NOT_MEASURED if unmeasured else _VERDICTS[figure.holds]
    return value, interval, "" if figure.asked is None else str(figure.asked), verdict


def _summary(check: CheckResult) -> str:
    asked = [figure for figure in check.figures if figure.asked is not None]
    failed = [figure for figure in asked if figure.holds is False]
    missing = [figure for figure in asked if figure.holds is None]
    text = f"{check.name}: {len(asked) - len(failed) - len(missing)} of {len(asked)} hold"
    if failed:
        text += f", {len(failed)} do not"
    if missing:
        text += f", {len(missing)} not measured"
    return f"{text}; {check.duration_s:.0f} s"


@contextmanager
def progress_on(console: Console) -> Iterator[Progress]:
    """Shows what is being measured: in a line that changes on a terminal, elsewhere in a line each."""
    if not console.is_terminal:
        yield lambda name: console.print(f"measuring {name}", highlight=False, markup=False, soft_wrap=True)
        return
    with console.status("measuring") as status:
        yield lambda name: status.update(f"measuring {escape(name)}")
