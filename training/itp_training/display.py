"""The display of a run: a live panel on a terminal, else a line or a JSON object a round."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from itp_training.progress import Moment, RoundLike, Run

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

    def finished(self, rounds: Sequence[RoundLike]) -> None:
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

    def __init__(self, rounds: Sequence[RoundLike], n_rounds: int) -> None:
        self._start_s, self._done_before, self._n_rounds = time.monotonic(), len(rounds), n_rounds

    def finished(self, rounds: Sequence[RoundLike]) -> None:
        done = rounds[-1]
        spent_s = time.monotonic() - self._start_s
        left_s = spent_s * (self._n_rounds - len(rounds)) / (len(rounds) - self._done_before)
        before = rounds[-2] if len(rounds) > 1 else None
        figures = [f"{name} {text}" for name, text in done.figures().items() if text]
        speeds = [f"{text} {name}" for name, text in done.rates(before).items() if text]
        print(f"{done.unit} {done.step}: {', '.join([*figures, *speeds])}, {clock(left_s)} left", flush=True)


class JsonLines(Display):
    """A JSON object a round, and one at the end."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def finished(self, rounds: Sequence[RoundLike]) -> None:
        if not self._quiet:
            print(json.dumps(rounds[-1].as_dict()), flush=True)

    def end(self, summary: dict[str, Any], lines: Sequence[str]) -> None:  # noqa: ARG002
        print(json.dumps(summary), flush=True)


class Panel(Display):
    """The last rounds in a table, and a bar, on a terminal."""

    def __init__(self, output: Console, rounds: Sequence[RoundLike], n_rounds: int) -> None:
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

    def finished(self, rounds: Sequence[RoundLike]) -> None:
        self._rounds = rounds
        self._bar.update(self._task, completed=len(rounds) / self._n_rounds)

    def _render(self) -> Group:
        if not self._rounds:
            return Group(self._bar)
        last = len(self._rounds) - 1
        shown = [name for name, text in _shown(self._rounds, last).items() if text]
        unit = f"{self._rounds[last].unit}s"
        table = console.table("", [], [unit, *(_HEADS.get(name, name) for name in shown)])
        for number in range(max(last + 1 - _ROUNDS_SHOWN, 0), last + 1):
            texts = _shown(self._rounds, number)
            table.add_row(str(self._rounds[number].step), *(texts[name] for name in shown))
        return Group(table, self._bar)


def display(trainer: Run, *, as_json: bool, quiet: bool) -> Display:
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


def _shown(rounds: Sequence[RoundLike], number: int) -> dict[str, str]:
    """The figures and rates of one of some rounds."""
    return rounds[number].figures() | rounds[number].rates(rounds[number - 1] if number else None)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
