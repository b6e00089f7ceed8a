"""Charts of a report; importing this module imports matplotlib."""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from itp.evaluation.analysis import ORACLE, Group
from itp.evaluation.results import Results, Timeline
from itp.evaluation.text import MINUS, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID = "#1c2128", "#656d77", "#d9dee4"
# Okabe and Ito's colours without yellow, which a light page does not show. Dashes distinguish lines, too.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# Readable on all of them, in light and dark alike.
ON_SERIES = "#0b0d10"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
_RULES_SHOWN = 3
_TIMELINE_TASKS = 40
_SAFE_LENGTH = 40
RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "itp",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Style:
    """How a policy is drawn in every chart."""

    colour: str
    dashes: Any
    width: float


def styles(results: Results) -> dict[str, Style]:
    """The style of every policy: the oracle is black and dashed, candidates are bold."""
    bold = results.candidates
    ranks = [[row.policy for row in average.rows] for average in results.analysis.averages]
    rules = [name for name in results.configuration.policies if name not in (*bold, ORACLE)]
    ordered = [*bold, *sorted(rules, key=lambda name: min(rank.index(name) for rank in ranks))]
    drawn = {
        name: Style(
            SERIES[k % len(SERIES)], _DASHES[k // len(SERIES) % len(_DASHES)], 2.2 if name in bold else 1.4
        )
        for k, name in enumerate(ordered)
    }
    drawn[ORACLE] = Style(INK, (0, (4, 1.5)), 1.6)
    return drawn


def charts(results: Results) -> Iterator[tuple[str, Figure]]:
    """Every chart with a name of its own for its file."""
    used: Counter[str] = Counter()
    for words, figure in _charts(results):
        name = "-".join(_safe(word) for word in words)
        used[name] += 1
        yield name if used[name] == 1 else f"{name}-{used[name]}", figure


def _charts(results: Results) -> Iterator[tuple[tuple[str, ...], Figure]]:
    for average in results.analysis.averages:
        order = average.service_order
        if average.rows[0].differences:
            yield ("gain", order), gain(results, order)
            if ORACLE in results.configuration.policies:
                yield ("gap", order), gap(results, order)
    for group in results.analysis.groups:
        yield ("completion", group.scenario, group.service_order), completion(results, group)
    for line in compared_timelines(results):
        yield ("timeline", line.scenario, line.service_order, line.policy), timeline(results, line)


def svg(figure: Figure) -> str:
    """A figure as SVG text."""
    buffer = io.StringIO()
    with mpl.rc_context(RC), warnings.catch_warnings():
        # The text stays text: it is drawn with the reader's fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": "ITP"})
    text = buffer.getvalue()
    # Hundredths of a point are enough, and halve the size.
    return re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match.group()):.2f}".rstrip("0").rstrip("."), text)


# --- completion times ---


def completion(results: Results, group: Group) -> Figure:
    """Distribution of completion times over the tasks of all seeds, one line a policy."""
    s, o = _cell(results, group)
    shares = np.linspace(0.0, 1.0, results.completion_s.shape[-1])
    drawn = styles(results)
    shown = _shown(results, group)
    with mpl.rc_context(RC):
        figure = Figure(figsize=(5.2, 3.3))
        axes = figure.add_axes((0.145, 0.15, 0.845, 0.82))
        for p, policy in enumerate(results.configuration.policies):
            style = drawn[policy]
            if policy in shown:
                axes.plot(
                    results.completion_s[s, o, p],
                    shares,
                    color=style.colour,
                    linestyle=style.dashes,
                    linewidth=style.width,
                    label=label(policy),
                    zorder=3,
                )
            else:
                axes.plot(results.completion_s[s, o, p], shares, color=MUTED, linewidth=0.6, alpha=0.45)
        if len(shown) < len(results.configuration.policies):
            axes.plot([], [], color=MUTED, linewidth=0.6, alpha=0.6, label="other rules")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_seconds))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(LogLocator(numticks=8))
        axes.set_xlabel("completion time")
        axes.set_ylabel("share of tasks")
        axes.set_ylim(0.0, 1.0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: _percents(share)))
        axes.legend(loc="lower right", fontsize=8, handlelength=2.4)
        return figure


def _shown(results: Results, group: Group) -> list[str]:
    """Candidates, the oracle, and the best rules of the group."""
    named = [*results.candidates, ORACLE]
    rules = [row.policy for row in group.rows if row.policy not in named]
    return [*named, *rules[:_RULES_SHOWN]]


# --- comparisons ---


def gain(results: Results, order: str) -> Figure:
    """Change of slowdown against the reference in every scenario, with intervals."""
    groups, shown = _compared(results, order)
    figure, axes = _rows_figure(groups, shown)
    with mpl.rc_context(RC):
        _intervals(
            axes, results, {policy: [group.row(policy).change for group in groups] for policy in shown}
        )
        rival = label(results.configuration.reference or "the best classical rule")
        axes.set_xlabel(f"slowdown against {rival} (less is better)")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: _percents(share, "+")))
        axes.axvline(0.0, color=INK, linewidth=1.0)
    return figure


def gap(results: Results, order: str) -> Figure:
    """Share of the oracle's gap closed in every scenario, with intervals."""
    groups, shown = _compared(results, order)
    shown = [policy for policy in shown if policy != ORACLE]
    figure, axes = _rows_figure(groups, shown)
    with mpl.rc_context(RC):
        _intervals(
            axes, results, {policy: [group.row(policy).gap_closed for group in groups] for policy in shown}
        )
        axes.set_xlabel("share of the oracle's gap closed (more is better)")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: _percents(share)))
        for end in (0.0, 1.0):
            axes.axvline(end, color=INK, linewidth=1.0, linestyle="-" if end == 0.0 else (0, (4, 1.5)))
        axes.set_xlim(max(-2.0, axes.get_xlim()[0]), max(1.05, axes.get_xlim()[1]))
    return figure


def _compared(results: Results, order: str) -> tuple[list[Group], list[str]]:
    """The groups of an order, and the policies compared: candidates, oracle, best rules on average."""
    groups = [group for group in results.analysis.groups if group.service_order == order]
    average = next(group for group in results.analysis.averages if group.service_order == order)
    named = [name for name in (*results.candidates, ORACLE) if name in results.configuration.policies]
    rules = [row.policy for row in average.rows if row.policy not in named]
    return groups, [*named, *rules[:_RULES_SHOWN]]


def _rows_figure(groups: list[Group], shown: list[str]) -> tuple[Figure, Axes]:
    with mpl.rc_context(RC):
        height = 1.1 + len(groups) * (0.16 + 0.1 * len(shown))
        # Names of scenarios may have any length.
        figure = Figure(figsize=(5.6, max(2.2, height)), layout="constrained")
        axes = figure.add_subplot()
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.set_yticks(range(len(groups)), [group.scenario for group in groups])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        for k in range(1, len(groups)):
            axes.axhline(k - 0.5, color=GRID, linewidth=0.6)
    return figure, axes


def _intervals(axes: Axes, results: Results, estimates: dict[str, list[Any]]) -> None:
    drawn = styles(results)
    offsets = np.linspace(-0.3, 0.3, len(estimates)) if len(estimates) > 1 else np.zeros(1)
    markers = "osD^vP"
    for k, (policy, of_policy) in enumerate(estimates.items()):
        value = np.array([estimate.value for estimate in of_policy])
        bounds = np.array([(estimate.low, estimate.high) for estimate in of_policy]).T
        axes.errorbar(
            value,
            np.arange(len(value)) + offsets[k],
            # A percentile interval need not contain the figure itself.
            xerr=np.maximum([value - bounds[0], bounds[1] - value], 0.0),
            fmt=markers[k % len(markers)],
            markersize=3.5,
            color=drawn[policy].colour,
            elinewidth=1.2,
            label=label(policy),
        )
    axes.figure.legend(loc="outside upper left", ncols=3, fontsize=8, handletextpad=0.3, columnspacing=1.2)


# --- timelines ---


def compared_timelines(results: Results) -> list[Timeline]:
    """The timelines shown: for each service order the reference's, those of two candidates, the oracle's."""
    lines = []
    for group in results.analysis.groups:
        of_group = {
            line.policy: line
            for line in results.timelines
            if (line.scenario, line.service_order) == (group.scenario, group.service_order)
        }
        named = [name for name in (group.reference, *results.candidates[:2], ORACLE) if name in of_group]
        lines += [of_group[name] for name in dict.fromkeys(named)]
    return lines


def timeline(results: Results, line: Timeline) -> Figure:
    """A Gantt chart: what each stream served, and when; a task has one colour on all streams.

    All `compared_timelines` of a report share their axes.
    """
    intervals = _first_tasks(line)
    compared = [_first_tasks(other) for other in compared_timelines(results)]
    streams = 1 + max(int(other["stream"].max(initial=0)) for other in compared)
    # After the last start there are only the tails of long tasks.
    end_s = 1.04 * max(other["start_s"].max(initial=1e-3) for other in compared)
    with mpl.rc_context(RC):
        height = 0.9 + 0.42 * streams
        figure = Figure(figsize=(10.5, height))
        axes = figure.add_axes((0.065, 0.55 / height, 0.925, 1.0 - 0.65 / height))
        for stream in range(streams):
            mine = intervals[intervals["stream"] == stream]
            axes.broken_barh(
                list(zip(mine["start_s"], mine["end_s"] - mine["start_s"], strict=True)),
                (stream - 0.38, 0.76),
                facecolors=[SERIES[task % len(SERIES)] for task in mine["task"]],
                edgecolors="none",
            )
            _number_tasks(axes, mine, end_s)
        axes.set_yticks(range(streams), [f"stream {stream}" for stream in range(streams)])
        axes.set_ylim(streams - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("time in s")
        axes.set_xlim(0.0, end_s)
        return figure


def _first_tasks(line: Timeline) -> NDArray[np.void]:
    return line.intervals[line.intervals["task"] < _TIMELINE_TASKS]


def _number_tasks(axes: Axes, intervals: NDArray[np.void], end_s: float) -> None:
    """Print the task's number on bars that are wide enough."""
    for interval in intervals:
        start_s, stop_s = interval["start_s"], min(interval["end_s"], end_s)
        if stop_s - start_s > 0.025 * end_s:
            place = ((start_s + stop_s) / 2, interval["stream"])
            axes.text(*place, str(interval["task"]), ha="center", va="center", fontsize=7, color=ON_SERIES)


# --- small things ---


def _cell(results: Results, group: Group) -> tuple[int, int]:
    configuration = results.configuration
    return configuration.scenarios.index(group.scenario), configuration.service_orders.index(
        group.service_order
    )


def _seconds(value: float, _position: int | None = None) -> str:
    return f"{value * 1e3:g} ms" if value < 1.0 else f"{value:g} s"


def _percents(share: float, sign: str = "") -> str:
    return f"{sign if share > 0.0 else ''}{100 * share:.0f} %".replace("-", MINUS)


def _safe(name: str) -> str:
    """A part of a name that any file system takes."""
    return re.sub(r"[^\w.-]+", "-", name)[:_SAFE_LENGTH].strip(".") or "unnamed"
