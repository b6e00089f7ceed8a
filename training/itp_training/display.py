"""The display of a run: a live panel on a terminal, else a line or a JSON object a round."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from itp._util import console
from itp_training.trainer import Moment, Round, Trainer

_ROUNDS_SHOWN = 8
_REFRESHES_PER_S = 5


class Display:
    """Shows nothing but notes and the end: ``--quiet``, and the base of the others."""

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""

    def tick(self, moment: Moment) -> None:
        """Show the run's progress."""

    def finished(self, rounds: Sequence[Round]) -> None:
        """Show the last of these rounds."""

    def note(self, text: str) -> None:
        """Tell the user something on standard error."""
        print(text, file=sys.stderr, flush=True)

    def end(self, summary: dict[str, Any], lines: Sequence[str]) -> None:  # noqa: ARG002
        """Show how the run ended: `summary` is for programs, `lines` are for people."""
        for line in lines:
            print(line, flush=True)


class Lines(Display):
    """A plain line a round, for logs."""

    def __init__(self, rounds: Sequence[Round], n_rounds: int) -> None:
        self._start_s, self._done_before, self._n_rounds = time.monotonic(), len(rounds), n_rounds

    def finished(self, rounds: Sequence[Round]) -> None:
        done = rounds[-1]
        spent_s = time.monotonic() - self._start_s
        left_s = spent_s * (self._n_rounds - len(rounds)) / (len(rounds) - self._done_before)
        figures = [f"{name} {text}" for name, text in _figures(rounds).items() if text]
        speeds = [f"{text} {name}" for name, text in _rates(rounds).items() if text]
        unit = "episode" if done.episodes else "update"
        print(f"{unit} {done.step}: {', '.join([*figures, *speeds])}, {clock(left_s)} left", flush=True)


class JsonLines(Display):
    """A JSON object a round, and one at the end."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def finished(self, rounds: Sequence[Round]) -> None:
        if not self._quiet:
            print(json.dumps(asdict(rounds[-1])), flush=True)

    def end(self, summary: dict[str, Any], lines: Sequence[str]) -> None:  # noqa: ARG002
        print(json.dumps(summary), flush=True)


class Panel(Display):
    """The last rounds in a table, and a bar, on a terminal."""

    def __init__(self, output: Console, rounds: Sequence[Round], n_rounds: int) -> None:
        self._rounds, self._n_rounds = rounds, n_rounds
        self._bar = Progress(BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console.description())
        self._task = self._bar.add_task("", total=1.0)
        self._live = Live(console=output, get_renderable=self._render, refresh_per_second=_REFRESHES_PER_S)
        self._phase, self._since_s, self._before = "", 0.0, 0

    def __enter__(self) -> Panel:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def tick(self, moment: Moment) -> None:
        now_s = time.monotonic()
        counting = "decisions" if moment.phase == "collecting" else "updates"
        count = getattr(moment, counting)
        if moment.phase != self._phase:
            self._phase, self._since_s, self._before = moment.phase, now_s, count
        rate = (count - self._before) / max(now_s - self._since_s, 1e-3)
        self._bar.update(
            self._task,
            completed=moment.share,
            description=f"{moment.phase}, {rate:,.0f} {counting}/s",
        )

    def finished(self, rounds: Sequence[Round]) -> None:
        self._rounds = rounds
        self._bar.update(self._task, completed=len(rounds) / self._n_rounds)

    def _render(self) -> Group:
        if not self._rounds:
            return Group(self._bar)
        unit = "episodes" if self._rounds[-1].episodes else "updates"
        shown = [name for name, text in (_figures(self._rounds) | _rates(self._rounds)).items() if text]
        table = console.table("", [], [unit, *(_HEADS.get(name, name) for name in shown)])
        for number in range(max(len(self._rounds) - _ROUNDS_SHOWN, 0), len(self._rounds)):
            rounds = self._rounds[: number + 1]
            texts = _figures(rounds) | _rates(rounds)
            table.add_row(str(rounds[-1].step), *(texts[name] for name in shown))
        return Group(table, self._bar)


def display(trainer: Trainer, *, as_json: bool, quiet: bool) -> Display:
    """The one that fits the options and where the output goes."""
    if as_json:
        return JsonLines(quiet)
    if quiet:
        return Display()
    output = console.output()
    if output.is_terminal:
        return Panel(output, trainer.rounds, trainer.n_rounds)
    return Lines(trainer.rounds, trainer.n_rounds)


@contextmanager
def reading(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show how many records are read; gives the function to call with the number of those just read."""
    messages = console.messages()
    messages.quiet = quiet
    with console.progress(messages, SpinnerColumn(), console.description(), TimeElapsedColumn()) as bar:
        task = bar.add_task("reading records")
        total = 0

        def tick(count: int) -> None:
            nonlocal total
            total += count
            bar.update(task, description=f"reading records: {total:,}")

        yield tick


# Narrower heads for the panel.
_HEADS = {
    "slowdown": "slow-\ndown",
    "validation": "vali-\ndation",
    "epsilon": "eps",
    "decisions/s": "deci-\nsions/s",
    "updates/s": "up-\ndates/s",
}


def _figures(rounds: Sequence[Round]) -> dict[str, str]:
    """What the last of some rounds came to; nothing stands for what it has not."""
    done = rounds[-1]
    figures: dict[str, tuple[float | None, str]] = {
        "reward": (done.reward, ".3f"),
        "slowdown": (done.slowdown, ".3f"),
        "validation": (done.validation_slowdown, ".3f"),
        "loss": (done.loss, ".4g"),
        "epsilon": (done.epsilon, ".2f"),
        "beta": (done.beta, ".2f"),
    }
    return {name: "" if value is None else format(value, form) for name, (value, form) in figures.items()}


def _rates(rounds: Sequence[Round]) -> dict[str, str]:
    """How many decisions and updates a second the last of some rounds made."""
    last = rounds[-1]
    decisions, updates = last.decisions, last.updates
    if len(rounds) > 1:
        decisions -= rounds[-2].decisions
        updates -= rounds[-2].updates
    return {
        "decisions/s": f"{decisions / max(last.collect_s, 1e-9):,.0f}" if decisions else "",
        "updates/s": f"{updates / max(last.learn_s, 1e-9):,.0f}",
    }


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
