"""Figures and names as people read them."""

from __future__ import annotations

import math

from itp._util.terminal import printable
from itp.evaluation.bootstrap import Estimate
from itp.evaluation.metrics import METRICS
from itp.evaluation.replicas import Spread

MINUS = "\N{MINUS SIGN}"
# Keeps the sign beside its figure.
PERCENT = "\N{NO-BREAK SPACE}%"
NOTHING = "\N{EN DASH}"
_HEADINGS = {
    "p99_slowdown": "p99 slowdown",
    "mean_s": "mean s",
    "p50_s": "p50 s",
    "p95_s": "p95 s",
    "p99_s": "p99 s",
    "deadlines_met": "in time %",
    "goodput_mbps": "Mbit/s",
    "resent_bytes": "re-sent MB",
    "guarded": "guarded %",
}
_LABELS = {"least_completion_time_proportional": "LCT proportional"}


def label(name: str) -> str:
    """A policy's name in words, at most some twenty letters for ITP's own."""
    return _LABELS.get(name, printable(name.replace("_", " ")))


def number(value: float, digits: int = 3) -> str:
    """A figure with so many significant digits, without exponent."""
    if math.isnan(value):
        return NOTHING
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{min(decimals, 6)}f}".replace("-", MINUS)


def percent(value: float) -> str:
    """A share in percent."""
    return NOTHING if math.isnan(value) else f"{_rounded(value)}{PERCENT}".replace("-", MINUS)


def signed_percent(value: float) -> str:
    """A change in percent, with its sign unless it rounds to 0."""
    text = percent(value)
    return text if text[0] in (MINUS, NOTHING) or _rounded(value) == "0.0" else f"+{text}"


def _rounded(value: float) -> str:
    percents = 100.0 * value
    text = f"{percents:.0f}" if abs(percents) >= 99.95 else f"{percents:.1f}"
    return "0.0" if text == "-0.0" else text


def figure(name: str, value: float) -> str:
    """A figure of METRICS as a column with its `heading` shows it."""
    if name.endswith("_s"):
        return number(value) if value >= 0.1 else number(value, 2)
    if name == "reward" and not math.isnan(value):
        return f"{value:.2f}".replace("-", MINUS)
    if name in ("deadlines_met", "guarded"):
        return number(100 * value)
    if name == "resent_bytes":
        return number(value / 1e6, 2)
    return number(value)


def heading(name: str) -> str:
    """The heading of a column of figures as `figure` shows them."""
    return _HEADINGS.get(name, METRICS[name].title)


def interval(estimate: Estimate, form: str = "number") -> str:
    """``low to high``, in the form of `number`, `percent` or `signed_percent`."""
    return NOTHING if math.isnan(estimate.value) else _range(estimate.low, estimate.high, form)


def spread(over: Spread, form: str) -> str:
    """``least to most``, in the same forms."""
    return NOTHING if math.isnan(over.mean) else _range(over.least, over.most, form)


def _range(low: float, high: float, form: str) -> str:
    shown = {"number": number, "percent": percent, "signed_percent": signed_percent}[form]
    return f"{shown(low)} to {shown(high)}"


def listed(names: list[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def seeds_text(seeds: tuple[int, ...]) -> str:
    """How many seeds, and which."""
    if seeds == tuple(range(seeds[0], seeds[0] + len(seeds))):
        return f"{len(seeds)} ({seeds[0]} to {seeds[-1]})" if len(seeds) > 1 else f"1 ({seeds[0]})"
    return f"{len(seeds)}: {', '.join(map(str, seeds))}"
