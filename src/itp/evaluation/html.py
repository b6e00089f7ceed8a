"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from itp.evaluation.analysis import ORACLE, Group, Row
from itp.evaluation.bootstrap import Estimate
from itp.evaluation.charts import GRID, INK, MUTED, SERIES, completion, gain, gap, svg, timeline, told
from itp.evaluation.text import (
    HOW_TO_READ,
    NOTHING,
    REPLICAS,
    candidates,
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
    from matplotlib.figure import Figure

    from itp.evaluation.report import Report

# The charts' colours follow the page's, light or dark.
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    **{colour: f"var(--s{k + 1})" for k, colour in enumerate(SERIES)},
}


def page(report: Report) -> str:
    """The whole page."""
    configuration = report.configuration
    several = len(configuration.scenarios) > 1
    scenarios = {name: f"scenario-{k}" for k, name in enumerate(configuration.scenarios)}
    links = [("summary", "Summary"), ("reading", "How to read"), ("comparison", "Comparison")]
    links += [(anchor, name) for name, anchor in scenarios.items()]
    links += [("timelines", "Timelines")] if report.timelines else []
    links += [("configuration", "Configuration")]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>ITP: {len(configuration.policies)} policies compared</title>",
        f"<style>{_asset('page.css')}</style></head><body>",
        "<nav><strong>ITP</strong>",
        *(f'<a href="#{anchor}">{escape(text)}</a>' for anchor, text in links),
        "</nav><main>",
        "<h1>Policies compared</h1>",
        f'<p class="about">{len(configuration.policies)} policies, {len(scenarios)} '
        f"{'scenarios' if several else 'scenario'}, service order "
        f"{' and '.join(configuration.service_orders)}, {len(configuration.seeds)} seeds</p>",
        '<section id="summary">',
        _bullets(summary(report)),
        '</section><section id="reading"><h2>How to read this</h2>',
        _bullets(HOW_TO_READ),
        '</section><section id="comparison"><h2>Comparison</h2>',
        *_overview(report),
        "</section>",
    ]
    for name, anchor in scenarios.items():
        parts += [f'<section id="{anchor}">', *_scenario(report, name, anchor), "</section>"]
    if report.timelines:
        parts += ['<section id="timelines"><h2>Timelines</h2>', *_timelines(report), "</section>"]
    parts += ['<section id="configuration"><h2>Configuration</h2>', *_configuration(report), "</section>"]
    parts += [f"</main><script>{_asset('page.js')}</script></body></html>"]
    return "\n".join(parts) + "\n"


def _asset(name: str) -> str:
    return (files("itp.evaluation") / name).read_text(encoding="utf-8")


# --- sections ---


def _overview(report: Report) -> Iterator[str]:
    averages = report.analysis.averages
    compared = bool(averages[0].rows[0].differences)
    if compared:
        against = report.configuration.reference
        rival = label(against) if against else "each scenario's best classical rule"
        yield f'<h3>Slowdown against {escape(rival)}</h3><div class="pair">'
        for average in averages:
            order = average.service_order
            caption = f"{order}: change of the geometric-mean slowdown, with intervals."
            yield _figure(f"gain-{order}", gain(report, order), caption)
        yield "</div>"
        if ORACLE in report.configuration.policies:
            yield '<h3>Share of the oracle\'s gap closed</h3><div class="pair">'
            for average in averages:
                order = average.service_order
                yield _figure(
                    f"gap-{order}", gap(report, order), f"{order}: 0 % is the rule, 100 % the oracle."
                )
            yield "</div>"
    yield "<h3>Slowdown of every policy in every scenario</h3>"
    for average in averages:
        yield (
            f'<p class="about">{average.service_order}: geometric means; bold: the best classical rule; '
            "green: better than the reference for certain, orange: worse for certain.</p>"
        )
        yield _matrix(report, average)
    if len(report.configuration.scenarios) > 1:
        for average in averages:
            yield f"<h3>Average over scenarios, {average.service_order}</h3>"
            yield _comparison(report, average)
    if rows := replica_rows(report):
        yield f"<h3>Over {len(report.configuration.replicas)} training seeds</h3>"
        yield _table(REPLICAS, [("", [f"<td>{escape(cell)}</td>" for cell in row]) for row in rows])


def _matrix(report: Report, average: Group) -> str:
    groups = [group for group in report.analysis.groups if group.service_order == average.service_order]
    headings = ["policy", "average", *(group.scenario for group in groups)]
    rows = []
    for row in average.rows:
        cells = [_name_cell(row.policy), _cell(row.slowdown.value, number(row.slowdown.value))]
        for group in groups:
            mine = group.row(row.policy)
            kind = "" if mine.policy == group.reference or not mine.differences else mine.verdict
            text = number(mine.slowdown.value)
            best = mine.policy == group.best_classical
            cells.append(_cell(mine.slowdown.value, f"<b>{text}</b>" if best else text, kind))
        rows.append((_kind(report, average, row), cells))
    return _table(headings, rows)


def _scenario(report: Report, name: str, anchor: str) -> Iterator[str]:
    about = report.configuration.about[report.configuration.scenarios.index(name)]
    yield f"<h2>{escape(name)}</h2>"
    if about:
        yield f'<p class="about">{escape(about)}</p>'
    groups = [group for group in report.analysis.groups if group.scenario == name]
    yield '<div class="pair">'
    for group in groups:
        yield _figure(
            f"{anchor}-{group.service_order}",
            completion(report, group),
            f"{group.service_order}: completion times of all tasks.",
        )
    yield "</div>"
    for group in groups:
        yield f"<h3>{group.service_order}</h3>"
        if group.best_classical is not None:
            yield (
                f'<p class="about">Best classical rule: {escape(label(group.best_classical))}, in '
                f"{percent(group.certainty)} of resamples.</p>"
            )
        yield _comparison(report, group)
        yield "<details><summary>Times, deadlines, goodput</summary>"
        yield _details(report, group)
        yield "</details>"


def _timelines(report: Report) -> Iterator[str]:
    lines = told(report)
    yield (
        f"<p>The start of one episode in {escape(lines[0].scenario)} (seed {lines[0].seed}), where policies "
        "differ most: what each stream served, and when. A colour and a number stand for a task; the same "
        "number is the same task under every policy.</p>"
    )
    for k, line in enumerate(lines):
        yield f"<h3>{escape(label(line.policy))}, {line.service_order}</h3>"
        yield _figure(f"timeline-{k}", timeline(report, line), "", wide=True)


def _configuration(report: Report) -> Iterator[str]:
    configuration = report.configuration
    facts = {
        "Scenarios": ", ".join(configuration.scenarios),
        "Policies": ", ".join(label(name) for name in configuration.policies),
        "Service order": ", ".join(configuration.service_orders),
        "Seeds": seeds_text(configuration.seeds),
        "Tasks an episode": ", ".join(map(str, sorted(set(configuration.tasks)))),
        "Load": "as in the scenarios" if configuration.load is None else f"{configuration.load:g}",
        "Rates": rate_text(configuration.rate_scale),
        "Compared with": label(configuration.reference or "the best classical rule"),
        "ITP": configuration.version,
        "Took": f"{configuration.duration_s:.0f} s",
    }
    yield "<dl>"
    for name, value in facts.items():
        yield f"<dt>{name}</dt><dd>{escape(value)}</dd>"
    yield f"</dl><p>To repeat it:</p><pre><code>{escape(configuration.command)}</code></pre>"


# --- tables ---


def _comparison(report: Report, group: Group) -> str:
    headings = ["policy", "slowdown", "95 % interval"]
    compared = bool(group.rows[0].differences)
    if compared:
        rival = label(group.reference) if group.reference else "each best rule"
        headings += [f"against {rival}", "95 % interval", "oracle's gap closed", "95 % interval"]
    rows = []
    for row in group.rows:
        cells = [_name_cell(row.policy), _cell(row.slowdown.value, number(row.slowdown.value))]
        cells.append(_interval_cell(row.slowdown, "number"))
        if compared and row.policy == group.reference:
            cells += [_cell(0.0, "reference"), *[_cell(math.nan, NOTHING)] * 3]
        elif compared:
            closed = row.gap_closed
            cells += [
                _cell(row.change.value, signed_percent(row.change.value), row.verdict),
                _interval_cell(row.change, "signed_percent"),
                _cell(closed.value, percent(closed.value)),
                _interval_cell(closed, "percent"),
            ]
        rows.append((_kind(report, group, row), cells))
    return _table(headings, rows)


def _details(report: Report, group: Group) -> str:
    rows, shown = [], details(group)
    for row in group.rows:
        values = [(name, row.figures[name].value) for name in shown]
        cells = [_name_cell(row.policy), *(_cell(value, figure(name, value)) for name, value in values)]
        cells.append(_cell(row.deadlines_kept.value, percent(row.deadlines_kept.value)))
        rows.append((_kind(report, group, row), cells))
    return _table(["policy", *(heading(name) for name in shown), "deadlines kept"], rows)


def _kind(report: Report, group: Group, row: Row) -> str:
    if row.policy in candidates(report):
        return "candidate"
    return "best" if row.policy == group.best_classical else ""


def _table(headings: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f'<th scope="col"><button>{escape(text)}</button></th>' for text in headings)
    lines = [f"<tr{_class(kind)}>{''.join(cells)}</tr>" for kind, cells in rows]
    body = "\n".join(lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _name_cell(policy: str) -> str:
    return f'<td data-v="{escape(policy)}" title="{escape(policy)}">{escape(label(policy))}</td>'


def _cell(value: float, text: str, kind: str = "") -> str:
    key = "" if math.isnan(value) else f"{value:.6g}"
    return f'<td data-v="{key}"{_class(kind)}>{text}</td>'


def _interval_cell(estimate: Estimate, form: str) -> str:
    return _cell(estimate.low, f"<small>{interval(estimate, form)}</small>")


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind in ("best", "candidate", "better", "worse") else ""


def _bullets(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


# --- charts ---


def _figure(name: str, chart: Figure, caption: str, *, wide: bool = False) -> str:
    text = svg(chart)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    # Several drawings on one page: the ids of each begin with its name.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure{' class=wide' if wide else ''}>{text}{below}</figure>"
