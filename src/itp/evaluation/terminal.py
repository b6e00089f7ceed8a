"""The report on a terminal of 80 columns; importing this module imports rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from itp._util import console as shown
from itp.evaluation.analysis import Group
from itp.evaluation.results import Results
from itp.evaluation.summary import summary
from itp.evaluation.tables import DEADLINES_KEPT, GUARDED, comparison, details, replica_rows
from itp.evaluation.text import NOTHING, PERCENT, label


def print_report(results: Results, console: Console) -> None:
    """Print the tables and what follows from them."""
    configuration, analysis = results.configuration, results.analysis
    several = len(configuration.scenarios) > 1
    for group in (*analysis.groups, *(analysis.averages if several else ())):
        _print_comparison(results, group, console)
    for group in analysis.groups:
        _print_details(results, group, console)
    if rows := replica_rows(results):
        _print_replicas(len(configuration.replicas), rows, console)
    for sentence in summary(results):
        console.print(f"- {sentence}")
    console.print(
        f"{len(configuration.seeds)} seeds, {configuration.duration_s:.0f} s. Slowdown: geometric mean of "
        "completion time / time over all paths, empty. *: best classical rule. 95 %: bootstrap over seeds.",
        style="dim",
    )


def _print_comparison(results: Results, group: Group, console: Console) -> None:
    """Intervals without signs, and none of the gap closed: there is no room for them."""
    against = "vs\nbest *" if group.reference in (None, group.best_classical) else "vs\nreference"
    table = shown.table(
        f"{group.scenario or 'average over scenarios'}, {group.service_order}",
        ["policy"],
        ["slowdown", "95 %", against, "95 %", "gap\nclosed"],
    )
    for place, line in enumerate(comparison(results, group).lines):
        mark = " *" if line.policy == group.best_classical else ""
        cells = [cell.text for cell in line.cells[:5]]
        for k in range(1, len(cells), 2):
            cells[k] = cells[k].replace(" to ", "..").replace(PERCENT, "")
        if line.policy == group.reference:
            cells[2:] = [NOTHING]
        table.add_row(
            label(line.policy) + mark, *cells, style="bold" if place == 0 else "green" if mark else None
        )
    console.print(table, "")


def _print_details(results: Results, group: Group, console: Console) -> None:
    """Without what the summary tells of the guard and of deadlines."""
    content = details(results, group)
    kept = [k for k, name in enumerate(content.headings[1:]) if name not in (GUARDED, DEADLINES_KEPT)]
    table = shown.table(
        f"{group.scenario}, {group.service_order}: an episode's figures, averaged over seeds",
        ["policy"],
        [content.headings[k + 1].replace(" ", "\n") for k in kept],
    )
    for line in content.lines:
        table.add_row(label(line.policy), *(line.cells[k].text for k in kept))
    console.print(table, "")


def _print_replicas(count: int, rows: Sequence[Sequence[str]], console: Console) -> None:
    table = shown.table(
        f"over {count} training seeds: slowdown against the reference, the oracle's gap closed",
        ["scenario", "order"],
        ["mean", "least to\nmost", "gap\nclosed", "least to\nmost"],
    )
    for row in rows:
        table.add_row(*row)
    console.print(table, "")
