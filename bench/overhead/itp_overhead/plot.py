"""The chart of decision times; importing this module imports matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from itp._util.files import write_bytes, write_text
from itp.evaluation.charts import INK, RC, SERIES, svg
from itp_overhead.decisions import Condition, Decisions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
_COLUMNS = 4
_DPI = 150
_POINTS = 1000


def write(measured: Decisions, path: Path) -> None:
    """Write the chart to a .png or .svg file."""
    figure = distributions(measured)
    if path.suffix.lower() == ".svg":
        write_text(path, svg(figure))
        return
    buffer = io.BytesIO()
    with mpl.rc_context(RC):
        figure.savefig(buffer, format="png", dpi=_DPI)
    write_bytes(path, buffer.getvalue())


def distributions(measured: Decisions) -> Figure:
    """A panel for every condition: the share of calls that took longer, over time in microseconds."""
    shown = [condition for condition in measured.conditions if condition.timings]
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    with mpl.rc_context(RC):
        figure = Figure(figsize=(1.0 + 2.6 * columns, 0.9 + 2.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, condition in zip(panels, shown, strict=False):
            _draw(axes, condition)
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        for axes in panels[: len(shown)][-columns:]:
            axes.tick_params(labelbottom=True)
        figure.supxlabel("time of a call in \N{MICRO SIGN}s", fontsize=9)
        figure.supylabel("share of calls that took longer", fontsize=9)
        lines, labels = panels[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside upper center", ncols=3, fontsize=8)
        return figure


def _draw(axes: Axes, condition: Condition) -> None:
    for k, timing in enumerate(condition.timings):
        # Points spread evenly over the logarithm of the rank keep the tail whole and thin out the rest.
        ordered = np.sort(timing.times_ns)[::-1] * 1e-3
        ranks = np.unique(np.geomspace(1, len(ordered), _POINTS).astype(int))
        colour = SERIES[k] if k < len(SERIES) else INK
        axes.step(ordered[ranks - 1], ranks / len(ordered), where="post", color=colour, label=timing.name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(condition.name, fontsize=9)
