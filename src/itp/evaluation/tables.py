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
_SIDE_BY_SIDE = ("goodput_mbps", "deadlines_met")
_DETAILS = ("p50_s", "p95_s", "p99_s", "reward", "resent_bytes")


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
    """Slowdown, mean completion time, goodput and deadlines side by side; changes where there is a rival."""
    headings = ["policy", "slowdown", _INTERVAL, heading("p99_slowdown"), heading("mean_s")]
    headings += map(heading, _SIDE_BY_SIDE)
    compared = bool(group.rows[0].differences)
    if compared:
        for contest, title in (("slowdown", "slowdown"), ("mean_time", "mean time")):
            headings += [f"{title} against {_rival(group, contest)}", _INTERVAL]
        headings += ["oracle's gap closed", _INTERVAL]
    lines = []
    for row in group.rows:
        cells = [
            Cell(number(row.slowdown.value), row.slowdown.value),
            _interval(row.slowdown, "number"),
            _figure(row, "p99_slowdown"),
            Cell(figure("mean_s", row.mean_s.value), row.mean_s.value),
            *(_figure(row, name) for name in _SIDE_BY_SIDE),
        ]
        if compared:
            cells += [*_change(row, group, "slowdown"), *_change(row, group, "mean_time")]
            cells += [Cell(percent(row.gap_closed.value), row.gap_closed.value)]
            cells += [_interval(row.gap_closed, "percent")]
        lines.append(Line(row.policy, _kind(results, group, row), tuple(cells)))
    return Table(tuple(headings), tuple(lines))


def losses_first(results: Results, average: Group, policy: str) -> Table | None:
    """A policy against the best rule of each measure, scenario by scenario, its worst slowdown first.

    The columns "untuned" leave the rules out that are fitted to the very scenario. None without a rule, and
    for what the caller named as the reference.
    """
    if policy == results.configuration.reference:
        return None
    groups = [group for group in results.analysis.groups if group.service_order == average.service_order]
    if not all(group.rows[0].differences for group in groups):
        return None
    groups.sort(key=lambda group: -group.row(policy).change.value)
    lines = []
    for group in (*([average] if len(groups) > 1 else []), *groups):
        row = group.row(policy)
        cells: list[Cell] = []
        for contest in ("slowdown", "mean_time"):
            untuned = row.changes[f"{contest}_untuned"]
            cells += [Cell(_rival(group, contest)), *_change(row, group, contest)]
            cells.append(Cell(signed_percent(untuned.value), untuned.value))
        lines.append(Line(group.scenario or "average", "", tuple(cells)))
    headings = ["scenario"]
    for title in ("slowdown", "mean time"):
        headings += ["rule", title, _INTERVAL, "untuned"]
    return Table(tuple(headings), tuple(lines))


def rivals_text(results: Results) -> str:
    """What policies are compared with."""
    reference = results.configuration.reference
    return "the best rules" if reference is None else label(reference)


def _rival(group: Group, contest: str) -> str:
    rival = group.rivals[contest].policy
    return "each scenario's best rule" if rival is None else label(rival)


def _figure(row: Row, name: str) -> Cell:
    value = row.figures[name].value
    return Cell(figure(name, value), value)


def _change(row: Row, group: Group, contest: str) -> list[Cell]:
    """The change against the rival of a contest, and its interval."""
    if row.policy == group.rivals[contest].policy:
        return [Cell("reference", 0.0), Cell(NOTHING)]
    change = row.changes[contest]
    verdict = row.verdict_in(contest)
    return [
        Cell(signed_percent(change.value), change.value, "" if verdict == "even" else verdict),
        _interval(change, "signed_percent"),
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
    """Percentiles, rewards and the rest, as far as they say something of these policies."""
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
