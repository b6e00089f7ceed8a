"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from itp.evaluation.results import Results
from itp.evaluation.summary import HOW_TO_READ, summary
from itp.evaluation.tables import (
    REPLICAS,
    Table,
    comparison,
    details,
    facts,
    losses_first,
    replica_rows,
    rivals_text,
)
from itp.evaluation.text import label, percent


def markdown(results: Results) -> str:
    """The whole report."""
    configuration = results.configuration
    parts = [
        "# Policies compared",
        *_bullets(summary(results)),
        "",
        "## How to read this",
        *_bullets(HOW_TO_READ),
    ]
    for average in results.analysis.averages:
        for policy in results.candidates:
            if table := losses_first(results, average, policy):
                title = f"## {label(policy)} against {rivals_text(results)}, {average.service_order}"
                parts += ["", title, "", *_policies(table)]
    if len(configuration.scenarios) > 1:
        for average in results.analysis.averages:
            title = f"## Average over {len(configuration.scenarios)} scenarios, {average.service_order}"
            parts += ["", title, "", *_policies(comparison(results, average))]
    if rows := replica_rows(results):
        parts += ["", f"## Over {len(configuration.replicas)} training seeds"]
        parts += ["", f"{', '.join(map(label, configuration.replicas))}.", "", *_table(REPLICAS, rows)]
    for group in results.analysis.groups:
        parts += ["", f"## {group.scenario}, {group.service_order}"]
        if group.service_order == configuration.service_orders[0]:
            parts += ["", configuration.about[configuration.scenarios.index(group.scenario)]]
        if group.best_classical is not None:
            best = label(group.best_classical)
            parts += ["", f"Best classical rule: {best} ({percent(group.certainty)} of resamples)."]
        parts += ["", *_policies(comparison(results, group)), "", *_policies(details(results, group))]
    parts += ["", "## Configuration"]
    parts += _bullets(f"{name}: {value}" for name, value in facts(results).items())
    parts += ["", "To repeat it:", "", "```sh", configuration.command, "```"]
    return "\n".join(parts) + "\n"


def _bullets(sentences: Iterable[str]) -> list[str]:
    return ["", *(f"- {sentence}" for sentence in sentences)]


def _policies(table: Table) -> list[str]:
    """The best classical rule in bold."""
    rows = []
    for line in table.lines:
        name = label(line.policy)
        rows.append([f"**{name}**" if line.kind == "best" else name, *(cell.text for cell in line.cells)])
    return _table(table.headings, rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: names to the left, figures to the right."""
    rule = ["---", *("---:" for _ in headings[1:])]
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        for cells in (headings, rule, *rows)
    ]
