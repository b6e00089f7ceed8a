"""A scenario file's values, each with its place, so that whatever is wrong can be named."""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from itp.errors import ScenarioError
from itp.sim.scenario.draws import Number

MAX_CHOICES = 1000

_short = reprlib.Repr()
_short.maxlevel, _short.maxdict, _short.maxlist, _short.maxstring, _short.maxother = 2, 3, 4, 60, 60


def names(text: str) -> frozenset[str]:
    """The words of a text, as a set of keys."""
    return frozenset(text.split())


def shown(value: object) -> str:
    """A short text for any value a file can hold."""
    try:
        return _short.repr(value)
    except (ValueError, RecursionError):  # integers of thousands of digits
        return type(value).__name__


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be.

    Attributes
    ----------
    unit : str
    low, high : float
        Allowed themselves unless `above` or `below` says otherwise.
    above, below : bool
        The value must be greater than `low`; less than `high`.
    """

    unit: str
    low: float = 0.0
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        return (value > self.low if self.above else value >= self.low) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        text = f"{self.unit} {'>' if self.above else '>='} {self.low:g}"
        if self.high < math.inf:
            text += f" and {'<' if self.below else '<='} {self.high:g}"
        return text


@dataclass(frozen=True, slots=True)
class Node:
    """A value in a file.

    Attributes
    ----------
    value : object
    file : str
        Name of the file, for messages.
    key : str
        Where it stands in the file, lists counted from 1: ``paths[2].rate_mbit``.
    """

    value: Any
    file: str
    key: str = ""

    def fail(self, expected: str) -> ScenarioError:
        """The error that says that something else was expected here."""
        return ScenarioError(
            f"{self.file}: {self.key or 'scenario'} = {shown(self.value)}: expected {expected}"
        )

    def refuse(self, why: str) -> ScenarioError:
        """The error that says why this cannot be."""
        return ScenarioError(f"{self.file}: {self.key or 'scenario'}: {why}")

    def table(self, allowed: Collection[str], required: Collection[str] = ()) -> dict[str, Node]:
        """The keys of a table, none of them unknown or missing."""
        if not isinstance(self.value, Mapping):
            raise self.fail("a table of keys and values")
        nodes = {}
        for key, value in self.value.items():
            place = f"{self.key}." if self.key else ""
            if not isinstance(key, str) or key not in allowed:
                near = difflib.get_close_matches(str(key), allowed, 1) if isinstance(key, str) else []
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(allowed))}"
                name = key if isinstance(key, str) and len(key) < 60 else shown(key)
                raise ScenarioError(f"{self.file}: {place}{name}: unknown key; {hint}")
            nodes[key] = Node(value, self.file, place + key)
        for key in required:
            if key not in nodes:
                raise self.refuse(f"{key} is missing")
        return nodes

    def items(self, expected: str, low: int = 0, high: int = 10**6) -> list[Node]:
        """The elements of a list of `low` to `high`."""
        if not isinstance(self.value, (list, tuple)) or not low <= len(self.value) <= high:
            raise self.fail(expected)
        return [Node(value, self.file, f"{self.key}[{i}]") for i, value in enumerate(self.value, 1)]

    def plain(self, allowed: Range) -> float:
        """A number, not a distribution."""
        if isinstance(self.value, Mapping):
            raise self.refuse(f"a distribution cannot stand here: expected {allowed}")
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.fail(str(allowed))
        try:
            value = float(self.value)
        except OverflowError:
            raise self.fail(str(allowed)) from None
        if not math.isfinite(value) or value not in allowed:
            raise self.fail(str(allowed))
        return value

    def number(self, allowed: Range, scope: str = "") -> Number:
        """A number, or a distribution of numbers all of which are allowed."""
        if not isinstance(self.value, Mapping):
            return Number("fixed", (self.plain(allowed),), scope)
        kind, node = self._distribution()
        if kind == "choice":
            choices = node.items("a list of the numbers to choose from", 1, MAX_CHOICES)
            return Number("choice", tuple(choice.plain(allowed) for choice in choices), scope)
        low, high = (end.plain(allowed) for end in node.items("[lowest, highest]", 2, 2))
        if low > high:
            raise node.fail("[lowest, highest], in this order")
        if kind == "log_uniform" and low <= 0:
            raise node.fail("[lowest, highest] with lowest > 0")
        return Number(kind, (low, high), scope)

    def word(self, words: tuple[str, ...]) -> str:
        """One of some words."""
        if not isinstance(self.value, str) or self.value not in words:
            raise self.fail(" or ".join(f'"{word}"' for word in words))
        return self.value

    def words(self, words: tuple[str, ...], scope: str = "") -> Number:
        """One of some words, or a choice of them; as their numbers."""
        if not isinstance(self.value, Mapping):
            return Number("fixed", (float(words.index(self.word(words))),), scope)
        kind, node = self._distribution()
        if kind != "choice":
            raise self.fail("{choice = [...]} of " + ", ".join(words))
        choices = node.items("a list of the words to choose from", 1, MAX_CHOICES)
        return Number("choice", tuple(float(words.index(choice.word(words))) for choice in choices), scope)

    def _distribution(self) -> tuple[str, Node]:
        entries = self.table(("uniform", "log_uniform", "choice"))
        if len(entries) != 1:
            raise self.fail("a number, {uniform = [a, b]}, {log_uniform = [a, b]} or {choice = [...]}")
        return next(iter(entries.items()))

    def integer(self, what: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            raise self.fail(f"{what}, a whole number from {low} to {high}")
        return self.value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.fail("true or false")
        return self.value

    def text(self, what: str) -> str:
        """A text without NUL characters, that is not empty."""
        if not isinstance(self.value, str) or not self.value or "\0" in self.value:
            raise self.fail(what)
        return self.value
