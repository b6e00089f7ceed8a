"""The tables of a report, for a terminal, Markdown and HTML alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from itp.evaluation.analysis import Group, Row
from itp.evaluation.bootstrap import Estimate
from itp.evaluation.replicas import across
from itp.evaluation.results import Results
from itp.evaluation.text import (
    NOTHING,
    figure,
    heading,
    interval,
    label,
    number,
    percent,
    seeds_text,
    signed_percent,
    spread,
)

_INTERVAL = "95 % interval"
GUARDED, DEADLINES_KEPT = heading("guarded"), "deadlines kept"
_DETAILS = ("mean_s", "p50_s", "p95_s", "p99_s", "reward", "deadlines_met", "goodput_mbps", "resent_bytes")


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure as people read it.

    Attributes
    ----------
    text : str
    value : float
        What a column is sorted by; NaN comes last.
    verdict : str
        ``better`` or ``worse`` than the reference, where that is certain; else empty.
    style : str
        ``best`` for the best classical rule's, ``minor`` for an interval; else empty.
    """

    text: str
    value: float = math.nan
    verdict: str = ""
    style: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """The figures of a policy.

    Attributes
    ----------
    policy : str
    kind : str
        ``best`` for the best classical rule, ``candidate`` for what is neither classical nor the oracle.
    cells : tuple of Cell
        One for each heading but the first.
    """

    policy: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Policies and their figures; the first heading is that of the policies."""

    headings: tuple[str, ...]
    lines: tuple[Line, ...]


def comparison(results: Results, group: Group) -> Table:
    """Slowdowns; with a reference also the change against it, and the share of the oracle's gap closed."""
    headings = ["policy", "slowdown", _INTERVAL]
    compared = bool(group.rows[0].differences)
    if compared:
        rival = label(group.reference) if group.reference else "each scenario's best rule"
        headings += [f"against {rival}", _INTERVAL, "oracle's gap closed", _INTERVAL]
    lines = []
    for row in group.rows:
        cells = [Cell(number(row.slowdown.value), row.slowdown.value), _interval(row.slowdown, "number")]
        if compared:
            cells += _against(row, group)
        lines.append(Line(row.policy, _kind(results, group, row), tuple(cells)))
    return Table(tuple(headings), tuple(lines))


def _against(row: Row, group: Group) -> list[Cell]:
    if row.policy == group.reference:
        return [Cell("reference", 0.0), *[Cell(NOTHING)] * 3]
    change, closed = row.change, row.gap_closed
    return [
        Cell(signed_percent(change.value), change.value, _verdict(row, group)),
        _interval(change, "signed_percent"),
        Cell(percent(closed.value), closed.value),
        _interval(closed, "percent"),
    ]


def _interval(estimate: Estimate, form: str) -> Cell:
    return Cell(interval(estimate, form), estimate.low, style="minor")


def _verdict(row: Row, group: Group) -> str:
    compared = row.differences and row.policy != group.reference and row.verdict != "even"
    return row.verdict if compared else ""


def matrix(results: Results, average: Group) -> Table:
    """Slowdowns on average and in every scenario, under the service order of an average."""
    groups = [group for group in results.analysis.groups if group.service_order == average.service_order]
    lines = []
    for mean in average.rows:
        cells = [Cell(number(mean.slowdown.value), mean.slowdown.value)]
        for group in groups:
            row = group.row(mean.policy)
            style = "best" if row.policy == group.best_classical else ""
            cells.append(Cell(number(row.slowdown.value), row.slowdown.value, _verdict(row, group), style))
        lines.append(Line(mean.policy, _kind(results, average, mean), tuple(cells)))
    return Table(("policy", "average", *(group.scenario for group in groups)), tuple(lines))


def details(results: Results, group: Group) -> Table:
    """Times, rewards, deadlines and the rest, as far as they say something of these policies."""
    shown = list(_DETAILS)
    if any(row.figures["failed"].value > 0 for row in group.rows):
        shown.append("failed")
    if any(not math.isnan(row.figures["guarded"].value) for row in group.rows):
        shown.append("guarded")
    lines = []
    for row in group.rows:
        values = {name: row.figures[name].value for name in shown}
        cells = [Cell(figure(name, value), value) for name, value in values.items()]
        cells.append(Cell(percent(row.deadlines_kept.value), row.deadlines_kept.value))
        lines.append(Line(row.policy, _kind(results, group, row), tuple(cells)))
    return Table(("policy", *map(heading, shown), DEADLINES_KEPT), tuple(lines))


def _kind(results: Results, group: Group, row: Row) -> str:
    if row.policy in results.candidates:
        return "candidate"
    return "best" if row.policy == group.best_classical else ""


_SPREAD = "least to most"
REPLICAS = ("scenario", "order", "slowdown, mean", _SPREAD, "oracle's gap closed, mean", _SPREAD)


def replica_rows(results: Results) -> list[tuple[str, ...]]:
    """What the training seeds come to, under the headings of REPLICAS; no rows without any."""
    if not results.configuration.replicas:
        return []
    return [
        (
            found.scenario or "average",
            found.service_order,
            signed_percent(found.change.mean),
            spread(found.change, "signed_percent"),
            percent(found.gap_closed.mean),
            spread(found.gap_closed, "percent"),
        )
        for found in across(results)
        if found.scenario or len(results.configuration.scenarios) > 1
    ]


def facts(results: Results) -> dict[str, str]:
    """What was evaluated, by name."""
    configuration = results.configuration
    return {
        "Scenarios": ", ".join(configuration.scenarios),
        "Policies": ", ".join(map(label, configuration.policies)),
        "Service orders": ", ".join(configuration.service_orders),
        "Seeds": seeds_text(configuration.seeds),
        "Tasks an episode": ", ".join(map(str, sorted(set(configuration.tasks)))),
        "Load": "as in the scenarios" if configuration.load is None else f"{configuration.load:g}",
        "Rates": "as in the scenarios"
        if configuration.rate_scale == 1.0
        else f"{configuration.rate_scale:g} times the scenarios'",
        "Reference": label(configuration.reference or "the best classical rule"),
        "ITP": configuration.version,
        "Duration": f"{configuration.duration_s:.0f} s",
    }
