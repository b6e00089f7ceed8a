"""The curves of a run as one picture; importing this module imports matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from itp._util.files import write_bytes
from itp.evaluation.charts import INK, MUTED, RC, SERIES
from itp.evaluation.text import label
from itp_training.trainer import Round

_DPI = 144


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Lines over the steps of a run."""

    title: str
    lines: Mapping[str, Sequence[float]]
    """By name; names are shown where there are several, or a reference."""
    first_colour: int = 0
    """Of the palette."""
    reference: tuple[str, float] | None = None
    """A level to compare with, and its name."""
    from_zero: bool = False
    log: bool = False
    """Where all values are positive."""


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG."""
    buffer = io.BytesIO()
    with mpl.rc_context(RC):
        figure.savefig(buffer, format="png", dpi=_DPI)
    write_bytes(path, buffer.getbuffer())


def draw(panels: Sequence[Panel], steps: Sequence[int], unit: str) -> Figure:
    """An even number of panels, two in a row, above steps that count `unit`."""
    with mpl.rc_context(RC):
        rows = len(panels) // 2
        figure = Figure(figsize=(8.0, 2.8 if rows == 1 else 2.5 * rows), layout="constrained")
        parts = figure.subplots(rows, 2, sharex=True, squeeze=False)
        for axes, panel in zip(parts.flat, panels, strict=True):
            _draw(axes, panel, steps)
        for axes in figure.axes[-2:]:
            axes.set_xlabel(unit)
    return figure


def _draw(axes: Axes, panel: Panel, steps: Sequence[int]) -> None:
    marker = "o" if len(steps) == 1 else None
    many = len(panel.lines) > 1
    for number, (name, line) in enumerate(panel.lines.items(), panel.first_colour):
        axes.plot(steps, line, color=SERIES[number], marker=marker, label=name if many else None)
    axes.set_title(panel.title, fontsize=9, loc="left", color=INK)
    if panel.from_zero:
        axes.set_ylim(0.0, None)
    if panel.log and all(value > 0.0 for line in panel.lines.values() for value in line):
        axes.set_yscale("log")
    if panel.reference is not None:
        name, level = panel.reference
        axes.axhline(level, color=MUTED, linestyle=(0, (4, 1.5)), label=name)
    if many or panel.reference is not None:
        axes.legend(fontsize=8)


def curves(rounds: Sequence[Round], teacher: str, teacher_slowdown: float) -> Figure:
    """Of a Q-network: validation slowdown with the teacher's, loss; of episodes reward and epsilon too."""
    played = rounds[-1].episodes > 0
    panels = [
        Panel(
            title="slowdown in the validation worlds",
            lines={"": [done.validation_slowdown for done in rounds]},
            reference=(f"{label(teacher)}, the teacher", teacher_slowdown),
        ),
        Panel(title="loss", lines={"": [done.loss for done in rounds]}, first_colour=1, log=True),
    ]
    if played:
        reward, epsilon = [done.reward or 0.0 for done in rounds], [done.epsilon or 0.0 for done in rounds]
        panels.insert(
            1, Panel(title="reward a task, exploration included", lines={"": reward}, first_colour=2)
        )
        panels.append(
            Panel(title="share of random actions", lines={"": epsilon}, first_colour=3, from_zero=True)
        )
    return draw(panels, [done.step for done in rounds], "episodes" if played else "updates")
