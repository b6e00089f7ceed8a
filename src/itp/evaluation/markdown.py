"""The report as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from itp.evaluation.analysis import Group, Row
from itp.evaluation.text import (
    HOW_TO_READ,
    NOTHING,
    REPLICAS,
    details,
    figure,
    heading,
    interval,
    label,
    number,
    percent,
    rate_text,
    replica_rows,
    seeds_text,
    signed_percent,
    summary,
)

if TYPE_CHECKING:
    from itp.evaluation.report import Report


def markdown(report: Report) -> str:
    """The whole report."""
    configuration = report.configuration
    parts = [
        "# Policies compared",
        *_bullets(summary(report)),
        "",
        "## How to read this",
        *_bullets(HOW_TO_READ),
    ]
    for average in report.analysis.averages:
        if len(configuration.scenarios) > 1:
            parts += [
                "",
                f"## Average over {len(configuration.scenarios)} scenarios, {average.service_order}",
            ]
            parts += ["", *_comparison(average)]
    if rows := replica_rows(report):
        parts += ["", f"## Over {len(configuration.replicas)} training seeds"]
        parts += ["", f"{', '.join(map(label, configuration.replicas))}.", "", *table(list(REPLICAS), rows)]
    for group in report.analysis.groups:
        parts += ["", f"## {group.scenario}, {group.service_order}"]
        if group.service_order == configuration.service_orders[0]:
            parts += ["", configuration.about[configuration.scenarios.index(group.scenario)]]
        if group.best_classical is not None:
            parts += [
                "",
                f"Best classical rule: {label(group.best_classical)} "
                f"({percent(group.certainty)} of resamples).",
            ]
        parts += ["", *_comparison(group), "", *_details(group)]
    parts += [
        "",
        "## Configuration",
        "",
        f"ITP {configuration.version}; seeds: {seeds_text(configuration.seeds)}; tasks an episode: "
        f"{', '.join(map(str, sorted(set(configuration.tasks))))}; load: "
        f"{'as in the scenarios' if configuration.load is None else configuration.load}; "
        f"rates: {rate_text(configuration.rate_scale)}; "
        f"took {configuration.duration_s:.0f} s.",
        "",
        "```sh",
        configuration.command,
        "```",
    ]
    return "\n".join(parts) + "\n"


def _bullets(sentences: Iterable[str]) -> list[str]:
    return ["", *(f"- {sentence}" for sentence in sentences)]


def _comparison(group: Group) -> list[str]:
    headings = ["policy", "slowdown", "95 % interval"]
    versus = group.reference or "the scenario's best classical rule"
    compared = bool(group.rows[0].differences)
    if compared:
        headings += [f"against {label(versus)}", "95 % interval", "oracle's gap closed"]
    rows = []
    for row in group.rows:
        cells = [_name(row, group), number(row.slowdown.value), interval(row.slowdown)]
        if compared:
            cells += [*_against(row, group)]
        rows.append(cells)
    return table(headings, rows)


def _name(row: Row, group: Group) -> str:
    return f"**{label(row.policy)}**" if row.policy == group.best_classical else label(row.policy)


def _against(row: Row, group: Group) -> list[str]:
    if row.policy == group.reference:
        return ["reference", NOTHING, NOTHING]
    return [signed_percent(row.change.value), interval(row.change, "signed_percent"), _gap(row)]


def _gap(row: Row) -> str:
    closed = row.gap_closed
    return (
        percent(math.nan)
        if math.isnan(closed.value)
        else f"{percent(closed.value)} ({interval(closed, 'percent')})"
    )


def _details(group: Group) -> list[str]:
    shown = details(group)
    headings = ["policy", *(heading(name) for name in shown), "deadlines kept"]
    return table(
        headings,
        [
            [
                label(row.policy),
                *(figure(name, row.figures[name].value) for name in shown),
                percent(row.deadlines_kept.value),
            ]
            for row in group.rows
        ],
    )


def table(headings: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table: names to the left, figures to the right."""
    rule = ["---", *("---:" for _ in headings[1:])]
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        for cells in (headings, rule, *rows)
    ]
