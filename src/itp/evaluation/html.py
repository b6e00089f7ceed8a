"""The report as one HTML page that needs no other file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

from matplotlib.figure import Figure

from itp.evaluation.analysis import ORACLE
from itp.evaluation.charts import (
    GRID,
    INK,
    MUTED,
    SERIES,
    compared_timelines,
    completion,
    gain,
    gap,
    svg,
    timeline,
)
from itp.evaluation.results import Results
from itp.evaluation.summary import HOW_TO_READ, summary
from itp.evaluation.tables import (
    REPLICAS,
    Cell,
    Table,
    comparison,
    details,
    facts,
    losses_first,
    matrix,
    replica_rows,
    rivals_text,
)
from itp.evaluation.text import label, percent

# The charts' colours follow the page's, light or dark.
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    **{colour: f"var(--s{k + 1})" for k, colour in enumerate(SERIES)},
}


def page(results: Results) -> str:
    """The whole page."""
    configuration = results.configuration
    several = len(configuration.scenarios) > 1
    scenarios = {name: f"scenario-{k}" for k, name in enumerate(configuration.scenarios)}
    links = [("summary", "Summary"), ("reading", "How to read"), ("comparison", "Comparison")]
    links += [(anchor, name) for name, anchor in scenarios.items()]
    links += [("timelines", "Timelines")] if results.timelines else []
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
        _bullets(summary(results)),
        '</section><section id="reading"><h2>How to read this</h2>',
        _bullets(HOW_TO_READ),
        '</section><section id="comparison"><h2>Comparison</h2>',
        *_overview(results),
        "</section>",
    ]
    for name, anchor in scenarios.items():
        parts += [f'<section id="{anchor}">', *_scenario(results, name, anchor), "</section>"]
    if results.timelines:
        parts += ['<section id="timelines"><h2>Timelines</h2>', *_timelines(results), "</section>"]
    parts += ['<section id="configuration"><h2>Configuration</h2>', *_configuration(results), "</section>"]
    parts += [f"</main><script>{_asset('page.js')}</script></body></html>"]
    return "\n".join(parts) + "\n"


def _asset(name: str) -> str:
    return (files("itp.evaluation") / name).read_text(encoding="utf-8")


# --- sections ---


def _overview(results: Results) -> Iterator[str]:
    averages = results.analysis.averages
    compared = bool(averages[0].rows[0].differences)
    if compared:
        against = results.configuration.reference
        rival = label(against) if against else "each scenario's best classical rule"
        yield f'<h3>Slowdown against {escape(rival)}</h3><div class="pair">'
        for average in averages:
            order = average.service_order
            caption = f"{order}: change of the geometric-mean slowdown, with intervals."
            yield _figure(f"gain-{order}", gain(results, order), caption)
        yield "</div>"
        if ORACLE in results.configuration.policies:
            yield '<h3>Share of the oracle\'s gap closed</h3><div class="pair">'
            for average in averages:
                order = average.service_order
                yield _figure(
                    f"gap-{order}", gap(results, order), f"{order}: 0 % is the rule, 100 % the oracle."
                )
            yield "</div>"
    for average in averages:
        for policy in results.candidates:
            if table := losses_first(results, average, policy):
                title = f"{label(policy)} against {rivals_text(results)}, {average.service_order}"
                yield f"<h3>{escape(title)}</h3>"
                yield _policies(table)
    yield "<h3>Slowdown of every policy in every scenario</h3>"
    for average in averages:
        yield (
            f'<p class="about">{average.service_order}: geometric means; bold: the best classical rule; '
            "green: better than the reference for certain, orange: worse for certain.</p>"
        )
        yield _policies(matrix(results, average))
    if len(results.configuration.scenarios) > 1:
        for average in averages:
            yield f"<h3>Average over scenarios, {average.service_order}</h3>"
            yield _policies(comparison(results, average))
    if rows := replica_rows(results):
        yield f"<h3>Over {len(results.configuration.replicas)} training seeds</h3>"
        yield _table(REPLICAS, [("", [f"<td>{escape(cell)}</td>" for cell in row]) for row in rows])


def _scenario(results: Results, name: str, anchor: str) -> Iterator[str]:
    about = results.configuration.about[results.configuration.scenarios.index(name)]
    yield f"<h2>{escape(name)}</h2>"
    if about:
        yield f'<p class="about">{escape(about)}</p>'
    groups = [group for group in results.analysis.groups if group.scenario == name]
    yield '<div class="pair">'
    for group in groups:
        yield _figure(
            f"{anchor}-{group.service_order}",
            completion(results, group),
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
        yield _policies(comparison(results, group))
        yield "<details><summary>Percentiles, rewards, bytes sent again</summary>"
        yield _policies(details(results, group))
        yield "</details>"


def _timelines(results: Results) -> Iterator[str]:
    lines = compared_timelines(results)
    yield (
        f"<p>The start of one episode in {escape(lines[0].scenario)} (seed {lines[0].seed}), where policies "
        "differ most: what each stream served, and when. A colour and a number stand for a task; the same "
        "number is the same task under every policy.</p>"
    )
    for k, line in enumerate(lines):
        yield f"<h3>{escape(label(line.policy))}, {line.service_order}</h3>"
        yield _figure(f"timeline-{k}", timeline(results, line), "", wide=True)


def _configuration(results: Results) -> Iterator[str]:
    yield "<dl>"
    for name, value in facts(results).items():
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield f"</dl><p>To repeat it:</p><pre><code>{escape(results.configuration.command)}</code></pre>"


# --- tables ---


def _policies(table: Table) -> str:
    rows = [(line.kind, [_name_cell(line.policy), *map(_cell, line.cells)]) for line in table.lines]
    return _table(table.headings, rows)


def _table(headings: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f'<th scope="col"><button>{escape(text)}</button></th>' for text in headings)
    lines = [f"<tr{_class(kind)}>{''.join(cells)}</tr>" for kind, cells in rows]
    body = "\n".join(lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _name_cell(policy: str) -> str:
    return f'<td data-v="{escape(policy)}" title="{escape(policy)}">{escape(label(policy))}</td>'


def _cell(cell: Cell) -> str:
    key = "" if math.isnan(cell.value) else f"{cell.value:.6g}"
    text = escape(cell.text)
    shown = {"best": f"<b>{text}</b>", "minor": f"<small>{text}</small>"}.get(cell.style, text)
    return f'<td data-v="{key}"{_class(cell.verdict)}>{shown}</td>'


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
    # Several drawings share a page: the ids of each begin with its name.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure{' class=wide' if wide else ''}>{text}{below}</figure>"
