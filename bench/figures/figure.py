"""A measured figure, the bound it is held to, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

Progress = Callable[[str], object]
"""Called with the name of each measurement before it starts."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What is asked of a figure."""

    direction: Literal["at most", "at least"]
    value: float

    def allows(self, value: float) -> bool:
        """Whether a value keeps the bound; NaN does not."""
        return value <= self.value if self.direction == "at most" else value >= self.value

    def __str__(self) -> str:
        return f"{self.direction} {number(self.value)}"


def at_most(value: float) -> Bound:
    """An upper bound."""
    return Bound("at most", value)


def at_least(value: float) -> Bound:
    """A lower bound."""
    return Bound("at least", value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of a check.

    Attributes
    ----------
    name : str
        Stable, unique within its check; for programs.
    about : str
        What was measured; for people.
    value : float or None
        None if it could not be measured.
    unit : str
        "x" for a ratio.
    asked : Bound or None
        None if nothing is asked of it, here or at all.
    low, high : float or None
        Ends of its interval, if it has one.
    rough : bool
        So few samples that the bound counts as broken only where the whole interval breaks it.
    note : str
        Remarks, such as why it was not measured.
    """

    name: str
    about: str
    value: float | None
    unit: str
    asked: Bound | None = None
    low: float | None = None
    high: float | None = None
    rough: bool = False
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the figure keeps its bound; None if nothing is asked, or it was not measured."""
        if self.asked is None or self.value is None:
            return None
        judged = [self.value]
        if self.rough:
            judged += [end for end in (self.low, self.high) if end is not None]
        return any(map(self.asked.allows, judged))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "about": self.about,
            "value": _finite(self.value),
            "low": _finite(self.low),
            "high": _finite(self.high),
            "rough": self.rough,
            "unit": self.unit,
            "asked": None
            if self.asked is None
            else {"direction": self.asked.direction, "value": self.asked.value},
            "holds": self.holds,
            "note": self.note,
        }


def all_hold(figures: Iterable[Figure]) -> bool:
    """Whether every figure that something is asked of was measured and keeps its bound."""
    return all(figure.holds is True for figure in figures if figure.asked is not None)


def number(value: float) -> str:
    """Three significant digits, but no digit before the point left out."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 100.0:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None
