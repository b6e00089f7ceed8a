"""The curves of a run as one picture; importing this module imports matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from itp._util.files import write_bytes
from itp.evaluation.charts import INK, MUTED, RC, SERIES
from itp.evaluation.text import label
from itp_training.trainer import Round

_DPI = 144


def write_curves(path: Path, rounds: Sequence[Round], teacher: str, teacher_slowdown: float) -> None:
    """Draw a run's curves as PNG.

    Parameters
    ----------
    path : Path
    rounds : sequence of Round
    teacher : str
        The rule a network must beat.
    teacher_slowdown : float
        Its slowdown in the validation worlds.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(RC):
        curves(rounds, teacher, teacher_slowdown).savefig(buffer, format="png", dpi=_DPI)
    write_bytes(path, buffer.getbuffer())


def curves(rounds: Sequence[Round], teacher: str, teacher_slowdown: float) -> Figure:
    """Validation slowdown, the teacher's as a line, and loss; of episodes reward and epsilon too."""
    played = rounds[-1].episodes > 0
    steps = [done.step for done in rounds]
    marker = "o" if len(rounds) == 1 else None
    panels = [
        ("slowdown in the validation worlds", "validation_slowdown", SERIES[0]),
        ("loss", "loss", SERIES[1]),
    ]
    if played:
        panels.insert(1, ("reward a task, exploration included", "reward", SERIES[2]))
        panels.append(("share of random actions", "epsilon", SERIES[3]))
    with mpl.rc_context(RC):
        figure = Figure(figsize=(8.0, 5.0 if played else 2.8), layout="constrained")
        parts = figure.subplots(len(panels) // 2, 2, sharex=True)
        for axes, (title, name, colour) in zip(parts.flat, panels, strict=True):
            axes.plot(steps, [getattr(done, name) for done in rounds], color=colour, marker=marker)
            axes.set_title(title, fontsize=9, loc="left", color=INK)
            if name == "epsilon":
                axes.set_ylim(0.0, None)
            if name == "loss" and all(done.loss > 0.0 for done in rounds):
                axes.set_yscale("log")
        validation = figure.axes[0]
        validation.axhline(
            teacher_slowdown, color=MUTED, linestyle=(0, (4, 1.5)), label=f"{label(teacher)}, the teacher"
        )
        validation.legend(fontsize=8)
        for axes in figure.axes[-2:]:
            axes.set_xlabel("episodes" if played else "updates")
    return figure
