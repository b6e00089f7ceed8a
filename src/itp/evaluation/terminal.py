"""The report on a terminal of 80 columns; importing this module imports rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from itp._util import console as shown
from itp.evaluation.analysis import Group
from itp.evaluation.results import Results
from itp.evaluation.summary import summary
from itp.evaluation.tables import comparison, losses_first, replica_rows, rivals_text
from itp.evaluation.text import PERCENT, label, signed_percent


def print_report(results: Results, console: Console) -> None:
    """Print the tables and what follows from them."""
    configuration, analysis = results.configuration, results.analysis
    several = len(configuration.scenarios) > 1
    for group in (*analysis.groups, *(analysis.averages if several else ())):
        _print_comparison(results, group, console)
    for average in analysis.averages:
        for policy in results.candidates:
            _print_losses_first(results, average, policy, console)
    if rows := replica_rows(results):
        _print_replicas(len(configuration.replicas), rows, console)
    for sentence in summary(results):
        console.print(f"- {sentence}")
    console.print(
        f"{len(configuration.seeds)} seeds, {configuration.duration_s:.0f} s. Slowdown: geometric mean of "
        "completion time / time over all paths, empty. Percent: changes of slowdown against the best "
        "classical rule by it (*), of mean completion time against the best by that (+), and shares; "
        "untuned: against the best rule that is not fitted to the scenario. 95 %: bootstrap over seeds.",
        style="dim",
    )


def _print_comparison(results: Results, group: Group, console: Console) -> None:
    """Without intervals: there is no room for them."""
    headings = ["slow-\ndown", "\np99", "mean\ns", "\nMbit/s", "in\ntime"]
    compared = bool(group.rows[0].differences)
    best = None
    if compared:
        by_rule = group.reference in (None, group.best_classical)
        headings += ["\nvs *", "\nvs +"] if by_rule else ["slow-\ndown", "mean\ntime"]
        headings.append("gap\nclosed")
        best = group.rivals["mean_time"].policy if by_rule else None
    table = shown.table(
        f"{group.scenario or 'average over scenarios'}, {group.service_order}", ["policy"], headings
    )
    for place, (line, row) in enumerate(zip(comparison(results, group).lines, group.rows, strict=True)):
        slowdown, _, *figures = (cell.text for cell in line.cells[:6])
        marks = "*" * (line.policy == group.best_classical) + "+" * (line.policy == best)
        cells = [slowdown, *figures]
        if compared:
            changes = [row.changes[contest].value for contest in ("slowdown", "mean_time")]
            cells += [_short(signed_percent(change)) for change in changes]
            cells.append(_short(line.cells[10].text))
        style = "bold" if place == 0 else "green" if marks else None
        table.add_row(f"{label(line.policy)} {marks}".rstrip(), *cells, style=style)
    console.print(table, "")


def _print_losses_first(results: Results, average: Group, policy: str, console: Console) -> None:
    content = losses_first(results, average, policy)
    if content is None:
        return
    table = shown.table(
        f"{label(policy)} against {rivals_text(results)}, {average.service_order}",
        ["scenario"],
        ["slowdown", "95 %", "un-\ntuned", "mean\ntime", "95 %", "un-\ntuned"],
    )
    for line in content.lines:
        table.add_row(line.policy, *(_short(line.cells[k].text) for k in (1, 2, 3, 5, 6, 7)))
    console.print(table, "")


def _short(text: str) -> str:
    """An interval or a share in less room; its heading says the unit."""
    return text.replace(" to ", "..").replace(PERCENT, "")


def _print_replicas(count: int, rows: Sequence[Sequence[str]], console: Console) -> None:
    table = shown.table(
        f"over {count} training seeds: slowdown against the reference, the oracle's gap closed",
        ["scenario", "order"],
        ["mean", "least to\nmost", "gap\nclosed", "least to\nmost"],
    )
    for row in rows:
        table.add_row(*row)
    console.print(table, "")
