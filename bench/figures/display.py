"""The results of checks: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from figures.figure import Figure, all_hold, number
from itp._util import console

_WIDTH = 130
"""Of tables that do not go to a terminal."""


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


def print_results(results: Results) -> None:
    """Print what was measured on, a table for each check, and a summary."""
    out = console.output()
    if not out.is_terminal:
        out.width = _WIDTH
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items() if version)
    load = " ".join(f"{average:.1f}" for average in machine["load_average"])
    for line in (
        f"{results.command}, {results.date}",
        f"{machine['cpu']}, {machine['cpus']} usable, {machine['system']}, load {load}",
        f"Python {machine['python']}, {versions}",
    ):
        console.say(out, line)
    for check in results.checks:
        out.print("", _table(check), "")
        console.say(out, _summary(check))


def _table(check: CheckResult) -> Table:
    table = console.table("", [], [])
    table.add_column(check.name)
    for heading in ("measured", "interval", "asked"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for figure in check.figures:
        about = Text(figure.about)
        if figure.note:
            about.append(f"\n  {figure.note}", style="dim")
        table.add_row(about, *_measured(figure), _verdict(figure))
    return table


def _measured(figure: Figure) -> tuple[str, str, str]:
    unit = "x" if figure.unit == "x" else f" {figure.unit}"
    value = "-" if figure.value is None else f"{number(figure.value)}{unit}"
    interval = " to ".join(number(end) for end in (figure.low, figure.high) if end is not None)
    return value, interval, "" if figure.asked is None else str(figure.asked)


def _verdict(figure: Figure) -> Text:
    if figure.asked is None:
        return Text()
    if figure.holds is None:
        return Text("not measured", style="bold yellow")
    return Text("holds", style="green") if figure.holds else Text("does not hold", style="bold red")


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
