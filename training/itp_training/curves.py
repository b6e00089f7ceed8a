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
    """Validation slowdown with the teacher's as a line, reward, loss and epsilon over episodes."""
    episodes = [done.episodes for done in rounds]
    marker = "o" if len(rounds) == 1 else None
    with mpl.rc_context(RC):
        figure = Figure(figsize=(8.0, 5.0), layout="constrained")
        parts = figure.subplots(2, 2, sharex=True).flat
        panels = (
            ("slowdown in the validation worlds", "validation_slowdown", SERIES[0]),
            ("reward a task, exploration included", "reward", SERIES[2]),
            ("loss", "loss", SERIES[1]),
            ("share of random actions", "epsilon", SERIES[3]),
        )
        for axes, (title, name, colour) in zip(parts, panels, strict=True):
            axes.plot(episodes, [getattr(done, name) for done in rounds], color=colour, marker=marker)
            axes.set_title(title, fontsize=9, loc="left", color=INK)
        validation, _, loss, epsilon = figure.axes
        validation.axhline(
            teacher_slowdown, color=MUTED, linestyle=(0, (4, 1.5)), label=f"{label(teacher)}, the teacher"
        )
        validation.legend(fontsize=8)
        if all(done.loss > 0.0 for done in rounds):
            loss.set_yscale("log")
        epsilon.set_ylim(0.0, None)
        for axes in (loss, epsilon):
            axes.set_xlabel("episodes")
    return figure
